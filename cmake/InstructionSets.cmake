# The instruction-set levels the core is compiled for (fewer of them make a developer's build quicker), and the flags
# of each.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(ATTSVM_ISA_LEVELS baseline avx2 avx512 CACHE STRING "Instruction-set levels to compile for")
else()
  set(ATTSVM_ISA_LEVELS generic CACHE STRING "Instruction-set levels to compile for")
endif()

if(NOT ATTSVM_TEST_ISA_LEVELS)
  set(ATTSVM_TEST_ISA_LEVELS ${ATTSVM_ISA_LEVELS})
endif()

set(attsvm_flags_generic "")
set(attsvm_flags_baseline "-march=x86-64")
set(attsvm_flags_avx2 "-march=x86-64;-mavx2;-mfma")
set(attsvm_flags_avx512 "-march=x86-64;-mavx2;-mfma;-mavx512f;-mavx512dq;-mavx512bw;-mavx512vl;-mprefer-vector-width=512")

function(attsvm_set_isa target level)
  target_compile_options(${target} PRIVATE ${attsvm_flags_${level}})
endfunction()
