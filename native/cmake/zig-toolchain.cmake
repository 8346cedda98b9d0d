# Builds with the clang that the `ziglang` package carries: no system compiler, no symbol above GLIBC_2.17, and
# the C++ runtime inside each library. ALIQUOT_PYTHON names the Python that has the package.
if(NOT DEFINED ALIQUOT_PYTHON)
  if(DEFINED ENV{ALIQUOT_PYTHON})
    set(ALIQUOT_PYTHON "$ENV{ALIQUOT_PYTHON}")
  else()
    set(ALIQUOT_PYTHON python3)
  endif()
endif()
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ALIQUOT_PYTHON)

if(NOT DEFINED ALIQUOT_ZIG)
  execute_process(
    COMMAND "${ALIQUOT_PYTHON}" -c "import ziglang, pathlib; print(pathlib.Path(ziglang.__file__).parent / 'zig')"
    OUTPUT_VARIABLE ALIQUOT_ZIG OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
endif()
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ALIQUOT_ZIG)

set(ALIQUOT_GLIBC 2.17)
set(_target "${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu.${ALIQUOT_GLIBC}")

# CMake wants single programs for these, zig wants a subcommand: one small script each.
foreach(_tool cc c++ ar ranlib)
  set(_wrapper "${CMAKE_BINARY_DIR}/zig/${_tool}")
  set(_arguments "${_tool}")
  if(_tool STREQUAL "cc" OR _tool STREQUAL "c++")
    set(_arguments "${_tool} -target ${_target}")
  endif()
  if(NOT EXISTS "${_wrapper}")
    file(WRITE "${_wrapper}" "#!/bin/sh\nexec \"${ALIQUOT_ZIG}\" ${_arguments} \"$@\"\n")
    file(CHMOD "${_wrapper}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
                                         WORLD_READ WORLD_EXECUTE)
  endif()
endforeach()
set(CMAKE_C_COMPILER "${CMAKE_BINARY_DIR}/zig/cc")
set(CMAKE_CXX_COMPILER "${CMAKE_BINARY_DIR}/zig/c++")
set(CMAKE_AR "${CMAKE_BINARY_DIR}/zig/ar" CACHE FILEPATH "" FORCE)
set(CMAKE_RANLIB "${CMAKE_BINARY_DIR}/zig/ranlib" CACHE FILEPATH "" FORCE)
# zig cc turns undefined-behaviour traps on by default; the sanitizer build asks for them itself.
set(CMAKE_C_FLAGS_INIT "-fno-sanitize=undefined")
set(CMAKE_CXX_FLAGS_INIT "-fno-sanitize=undefined")
