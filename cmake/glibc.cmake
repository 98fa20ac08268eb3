# SEQFAST_GLIBC=2.28: a module that runs with every glibc from that on, whatever this machine has.
set(SEQFAST_GLIBC "" CACHE STRING "The oldest glibc to run with, as 2.28; empty: this machine's")

function(seqfast_link_with_old_glibc target)
  set(stubs ${CMAKE_CURRENT_BINARY_DIR}/glibc-${SEQFAST_GLIBC})
  execute_process(
    COMMAND ${Python_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/cmake/glibc_stubs.py
      ${SEQFAST_GLIBC} ${CMAKE_CXX_COMPILER} ${stubs}
    RESULT_VARIABLE status ERROR_VARIABLE said)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "SEQFAST_GLIBC=${SEQFAST_GLIBC}: no libraries to link with\n${said}")
  endif()
  target_sources(${target} PRIVATE cmake/old_glibc.cpp)
  target_link_directories(${target} BEFORE PRIVATE ${stubs})
  # C++ of this compiler goes into the module, and stays inside. The libraries that glibc was once
  # parted into are named, since an old one finds pthread_once and dlopen there alone.
  set(parts)
  foreach(part IN ITEMS libpthread.so.0 libdl.so.2 librt.so.1)
    execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${part}
      OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE)
    string(APPEND parts " ${path}")
  endforeach()
  target_link_options(${target} PRIVATE -static-libstdc++ -Wl,--exclude-libs,ALL
    "SHELL:-Wl,--no-as-needed ${parts} -Wl,--as-needed")
  # Where packaging/repair_wheel.py puts OpenMP's library.
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN/../seqfast.libs")
endfunction()

if(SEQFAST_GLIBC)
  seqfast_link_with_old_glibc(_C)
endif()
