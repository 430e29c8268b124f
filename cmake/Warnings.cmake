# The warnings that the code is held to; ATTSVM_WERROR makes them errors.
function(attsvm_set_warnings target)
  # -Wpsabi only says that vectors wider than the baseline's registers are passed in memory, which inlining removes.
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow -Wno-psabi)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC 12 finds its own AVX-512 header guilty of these.
    target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized -Wno-uninitialized)
  endif()
  if(ATTSVM_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()
