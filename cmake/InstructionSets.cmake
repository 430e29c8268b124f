# The instruction-set levels the core is compiled for (fewer of them make a build quicker), and the flags of each.
set(ATTSVM_ISA_LEVELS all CACHE STRING "Instruction-set levels to compile for: all, or a list, where native is this machine's best")

# Sets a list of levels to what its "all" or "native" stands for.
function(attsvm_resolve_levels variable)
  set(levels ${${variable}})
  if(levels STREQUAL "all")
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
      set(levels baseline avx2 avx512)
    else()
      set(levels generic)
    endif()
  elseif("native" IN_LIST levels)
    try_run(attsvm_ran attsvm_compiled SOURCES ${PROJECT_SOURCE_DIR}/cmake/native_level.cpp
            CMAKE_FLAGS -DINCLUDE_DIRECTORIES=${PROJECT_SOURCE_DIR}/cpp/include
            CXX_STANDARD 20 RUN_OUTPUT_VARIABLE native_level NO_CACHE)
    if(NOT attsvm_compiled OR NOT attsvm_ran EQUAL 0)
      message(FATAL_ERROR "cmake/native_level.cpp does not say which instruction-set level this machine has")
    endif()
    list(TRANSFORM levels REPLACE "^native$" ${native_level})
    if(native_level STREQUAL "generic")  # the only level of processors without others
      set(levels generic)
    endif()
    list(REMOVE_DUPLICATES levels)
  endif()
  set(${variable} ${levels} PARENT_SCOPE)
endfunction()

attsvm_resolve_levels(ATTSVM_ISA_LEVELS)
if(NOT ATTSVM_TEST_ISA_LEVELS)
  set(ATTSVM_TEST_ISA_LEVELS ${ATTSVM_ISA_LEVELS})
else()
  attsvm_resolve_levels(ATTSVM_TEST_ISA_LEVELS)
endif()

set(attsvm_flags_generic "")
set(attsvm_flags_baseline "-march=x86-64")
set(attsvm_flags_avx2 "-march=x86-64;-mavx2;-mfma")
set(attsvm_flags_avx512 "-march=x86-64;-mavx2;-mfma;-mavx512f;-mavx512dq;-mavx512bw;-mavx512vl;-mprefer-vector-width=512")

function(attsvm_set_isa target level)
  target_compile_options(${target} PUBLIC ${attsvm_flags_${level}})
endfunction()
