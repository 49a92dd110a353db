# rp_add_test(name [SOURCE file.c] [RANKS 1 2 3 4] LIBS rp_mpi ... [LABELS ...] [TIMEOUT seconds] [ARGS ...])
# A cmocka or plain test program. With RANKS it runs once under mpirun for each count; exit code 77 means skipped.
# Under mpirun the leak checker is off: Open MPI leaves memory behind, in modules that are unloaded by then.
find_program(RP_MPIRUN mpirun REQUIRED)
function(rp_add_test name)
  cmake_parse_arguments(ARG "" "SOURCE;TIMEOUT" "RANKS;LIBS;LABELS;ARGS" ${ARGN})
  if(NOT ARG_SOURCE)
    set(ARG_SOURCE ${name}_test.c)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  add_executable(test_${name} ${ARG_SOURCE})
  target_link_libraries(test_${name} PRIVATE rp_flags ${ARG_LIBS} PkgConfig::cmocka)
  if(ARG_RANKS)
    foreach(n IN LISTS ARG_RANKS)
      add_test(NAME ${name}_r${n}
               COMMAND ${CMAKE_SOURCE_DIR}/scripts/mpirun -n ${n} $<TARGET_FILE:test_${name}> ${ARG_ARGS})
      set_tests_properties(${name}_r${n} PROPERTIES TIMEOUT ${ARG_TIMEOUT} SKIP_RETURN_CODE 77
                           PROCESSORS 2 ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0" LABELS "${ARG_LABELS};mpi")
    endforeach()
  else()
    add_test(NAME ${name} COMMAND test_${name} ${ARG_ARGS})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} SKIP_RETURN_CODE 77 LABELS "${ARG_LABELS}")
  endif()
endfunction()

# rp_add_gpu_test(name [IN_ORDER] [SOURCE file.c] LIBS rp_kernels ... [TIMEOUT seconds] [ARGS ...])
# One source: tests <name>_host and <name>_host_down on the stand-in of tests/cuda_host, with blocks and threads in order
# and in reverse (the latter not with IN_ORDER: where all kernels run in reverse in other tests); in a build with CUDA also
# <name>_gpu (label gpu) on the GPU. The program exits with 77 where rp_gpu_count() is 0.
function(rp_add_gpu_test name)
  cmake_parse_arguments(ARG "IN_ORDER" "SOURCE;TIMEOUT" "LIBS;ARGS" ${ARGN})
  if(NOT ARG_SOURCE)
    set(ARG_SOURCE ${name}_test.c)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  rp_add_test(${name}_host SOURCE ${ARG_SOURCE} LIBS ${ARG_LIBS} LABELS cuda_host TIMEOUT ${ARG_TIMEOUT}
              ARGS ${ARG_ARGS})
  set_target_properties(test_${name}_host PROPERTIES RP_CUDA_HOST ON)
  if(NOT RP_SANITIZE AND NOT ARG_IN_ORDER) # what the other order does to memory is the same
    add_test(NAME ${name}_host_down COMMAND test_${name}_host ${ARG_ARGS})
    set_tests_properties(${name}_host_down PROPERTIES TIMEOUT ${ARG_TIMEOUT} SKIP_RETURN_CODE 77 LABELS cuda_host
                         ENVIRONMENT "RP_CUDA_HOST=order=down")
  endif()
  if(RP_HAS_CUDA)
    rp_add_test(${name}_gpu SOURCE ${ARG_SOURCE} LIBS ${ARG_LIBS} LABELS gpu TIMEOUT ${ARG_TIMEOUT} ARGS ${ARG_ARGS})
    set_tests_properties(${name}_gpu PROPERTIES RESOURCE_LOCK gpu)
  endif()
endfunction()
