# Chooses what stands behind the CUDA entry points: nvcc's kernels, a copy of them for the CPU, or stubs that raise.
#
#   SEQFAST_CUDA   on a GPU                            on the host executor
#   OFF            stub                                stub
#   AUTO           kernels if nvcc is found and works  stub
#   ON             kernels, or an error                stub
#   HOST           as AUTO                             the same .cu files, compiled as C++
set_property(CACHE SEQFAST_CUDA PROPERTY STRINGS AUTO ON OFF HOST)
if(NOT SEQFAST_CUDA MATCHES "^(AUTO|ON|OFF|HOST)$")
  message(FATAL_ERROR "SEQFAST_CUDA must be AUTO, ON, OFF or HOST, got ${SEQFAST_CUDA}")
endif()

# The kernels of whole sequences: a file for each family of cells and direction, so that all cores have work.
set(seqfast_cuda_sources)
set(families_header ${CMAKE_CURRENT_SOURCE_DIR}/csrc/cuda/rnn/families.h)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${families_header})
file(STRINGS ${families_header} line REGEX "^using SequenceFamilies")
string(REGEX MATCH "<([A-Za-z, ]+)>" line "${line}")
string(REPLACE ", " ";" families "${CMAKE_MATCH_1}")
set(params_forward ForwardParams)
set(params_backward BackwardParams)
foreach(family IN LISTS families)
  foreach(direction forward backward)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/cuda/persistent_${family}_${direction}.cu)
    set(params ${params_${direction}})
    file(CONFIGURE OUTPUT ${source} CONTENT [=[
// Whole sequences of the cells of @family@, @direction@.
#include "cuda/rnn/persistent.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
template const PersistentPass<@params@>& persistent_@direction@<@family@>();
}
]=] @ONLY)
    list(APPEND seqfast_cuda_sources ${source})
  endforeach()
endforeach()
# The rest, what takes longest first.
list(APPEND seqfast_cuda_sources
  csrc/cuda/beam_search/beam_search.cu
  csrc/cuda/rnn/stepwise.cu
  csrc/cuda/rnn/layer_norm.cu
  csrc/cuda/rnn/second_product.cu
  csrc/cuda/word2vec/word2vec.cu
  csrc/cuda/rnn/projection.cu
  csrc/cuda/ctc/align.cu
  csrc/cuda/ctc/ctc.cu
  csrc/cuda/glove/glove.cu
  csrc/cuda/top_k/top_k.cu
  csrc/cuda/rnn/packing.cu
  csrc/cuda/rnn/rnn.cu
  csrc/cuda/rnn/padding.cu
  csrc/cuda/dropout/dropout.cu)
set(seqfast_host_executor_sources
  csrc/host_executor/barriers.cpp
  csrc/host_executor/copies.cpp
  csrc/host_executor/executor.cpp
  csrc/host_executor/fibre.cpp
  csrc/host_executor/launch.cpp
  csrc/host_executor/report.cpp
  csrc/host_executor/scheduler.cpp
  csrc/host_executor/stores.cpp)

set(seqfast_cuda_state "off")
set(seqfast_cuda_architectures)
set(seqfast_cuda_libraries)
set(seqfast_cuda_definitions)
set(seqfast_cuda_bindings)

# The symbols of one namespace, each raising an error that says what is missing.
function(seqfast_add_stub namespace missing)
  add_library(seqfast_no_${namespace} OBJECT csrc/cuda/no_cuda.cpp)
  target_compile_definitions(seqfast_no_${namespace} PRIVATE
    SEQFAST_CUDA_NAMESPACE=${namespace} SEQFAST_CUDA_MISSING="${missing}")
  target_link_libraries(seqfast_no_${namespace} PRIVATE seqfast_options)
  set(seqfast_cuda_libraries ${seqfast_cuda_libraries} seqfast_no_${namespace} PARENT_SCOPE)
endfunction()

# `nvcc`: the compiler to use, or "" and then `reason` says why there is none.
function(seqfast_find_nvcc)
  set(reason "")
  set(asked "$ENV{CUDACXX}")
  if(CMAKE_CUDA_COMPILER)
    set(found "${CMAKE_CUDA_COMPILER}")
  elseif(asked)
    find_program(found "${asked}" NO_CACHE)
    if(NOT found)
      set(reason "CUDACXX names ${asked}, which is not there")
    endif()
  else()
    file(GLOB toolkits /usr/local/cuda-*)
    list(SORT toolkits COMPARE NATURAL ORDER DESCENDING)
    find_program(found nvcc NO_CACHE
      HINTS "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}" PATHS /usr/local/cuda ${toolkits}
      PATH_SUFFIXES bin)
    if(NOT found)
      set(reason "no nvcc in CUDACXX, CUDA_HOME, CUDA_PATH, PATH or /usr/local/cuda*")
    endif()
  endif()
  if(NOT reason)
    execute_process(COMMAND "${found}" --version OUTPUT_VARIABLE text ERROR_VARIABLE text)
    if(NOT text MATCHES "release ([0-9]+\\.[0-9]+)")
      set(reason "${found} --version names no release")
    elseif(CMAKE_MATCH_1 VERSION_LESS 12.0)
      set(reason "${found} is ${CMAKE_MATCH_1}")
    endif()
  endif()
  if(reason)
    set(found "")
  endif()
  set(nvcc "${found}" PARENT_SCOPE)
  set(reason "${reason}" PARENT_SCOPE)
endfunction()

set(nvcc "")
if(SEQFAST_CUDA STREQUAL "OFF")
  set(reason "SEQFAST_CUDA is OFF")
elseif(SEQFAST_SANITIZE AND NOT SEQFAST_CUDA STREQUAL "ON")
  set(reason "sanitizers do not see what runs on a GPU")
else()
  seqfast_find_nvcc()
  if(nvcc)
    set(ENV{CUDACXX} "${nvcc}")
    if(NOT DEFINED ENV{CUDAHOSTCXX})
      set(ENV{CUDAHOSTCXX} "${CMAKE_CXX_COMPILER}")
    endif()
    if(NOT SEQFAST_CUDA STREQUAL "ON")
      # Tried in a project aside: an nvcc that does not work must not stop a plain installation.
      include(CheckLanguage)
      check_language(CUDA)
      if(NOT CMAKE_CUDA_COMPILER)
        unset(CMAKE_CUDA_COMPILER CACHE)
        set(reason "${nvcc} does not work with ${CMAKE_CXX_COMPILER} (see CMakeFiles/CheckCUDA)")
        set(nvcc "")
      endif()
    endif()
  endif()
endif()

if(nvcc)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    # 8.0's machine code runs on 8.6 and 8.9 too, 9.0's PTX on whatever comes later.
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
    if(SEQFAST_CUDA_NEWEST)
      # PTX compiles for half a minute at its first call, so wheels have machine code where nvcc can make it.
      execute_process(COMMAND ${nvcc} --list-gpu-code OUTPUT_VARIABLE known ERROR_QUIET)
      foreach(newer 100 120)
        if(known MATCHES "sm_${newer}\n")
          list(APPEND CMAKE_CUDA_ARCHITECTURES ${newer}-real)
        endif()
      endforeach()
    endif()
  endif()
  enable_language(CUDA)
  set(seqfast_cuda_state "on")
  string(REGEX REPLACE "-(real|virtual)" "" seqfast_cuda_architectures
    "${CMAKE_CUDA_ARCHITECTURES}")
  list(REMOVE_DUPLICATES seqfast_cuda_architectures)

  add_library(seqfast_cuda OBJECT ${seqfast_cuda_sources})
  set_target_properties(seqfast_cuda PROPERTIES
    CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF
    CUDA_VISIBILITY_PRESET hidden
    CUDA_RUNTIME_LIBRARY Static)
  target_compile_definitions(seqfast_cuda PRIVATE SEQFAST_CUDA_NAMESPACE=cuda)
  if(SEQFAST_CUDA_WATCHDOG)
    target_compile_definitions(seqfast_cuda PRIVATE SEQFAST_CUDA_WATCHDOG)
  endif()
  # Compressed, the module is a quarter of its size.
  target_compile_options(seqfast_cuda PRIVATE
    -O3 -lineinfo --expt-relaxed-constexpr -Xptxas=-v -Xfatbin=-compress-all)
  target_link_libraries(seqfast_cuda PRIVATE seqfast_options)
  list(APPEND seqfast_cuda_libraries seqfast_cuda)

  # What ptxas says of each kernel is kept beside its object and gathered when the module is linked.
  set(seqfast_register_report ${CMAKE_CURRENT_BINARY_DIR}/register_report.txt)
  set_property(TARGET seqfast_cuda PROPERTY CUDA_COMPILER_LAUNCHER
    ${Python_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/cmake/register_report.py compile
    ${CMAKE_CXX_COMPILER_LAUNCHER})
  install(FILES ${seqfast_register_report} DESTINATION seqfast)
  list(JOIN seqfast_cuda_architectures ", " architectures)
  message(STATUS "SEQFAST_CUDA=${SEQFAST_CUDA}: kernels for a GPU: ${architectures}, by ${nvcc}"
    " ${CMAKE_CUDA_COMPILER_VERSION}")
elseif(SEQFAST_CUDA STREQUAL "ON")
  message(FATAL_ERROR "SEQFAST_CUDA=ON needs nvcc 12.0 or newer: ${reason}")
else()
  seqfast_add_stub(cuda "CUDA")
  message(STATUS "SEQFAST_CUDA=${SEQFAST_CUDA}: no kernels for a GPU: ${reason}")
endif()

if(SEQFAST_CUDA STREQUAL "HOST")
  # A language is a property of a file, not of a target: each .cu gets a C++ file that includes it.
  set(wrappers)
  foreach(source IN LISTS seqfast_cuda_sources)
    get_filename_component(name ${source} NAME_WE)
    set(wrapper ${CMAKE_CURRENT_BINARY_DIR}/host_executor/${name}.cpp)
    string(REGEX REPLACE "^csrc/" "" header ${source})
    file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"${header}\"\n")
    list(APPEND wrappers ${wrapper})
  endforeach()
  add_library(seqfast_host_executor OBJECT ${wrappers} ${seqfast_host_executor_sources})
  # Kernels spend their time between switches: -O1 runs them as fast, and compiles in two thirds of the time.
  set_source_files_properties(${wrappers} PROPERTIES COMPILE_OPTIONS -O1)
  target_compile_definitions(seqfast_host_executor PRIVATE
    SEQFAST_HOST_EXECUTOR SEQFAST_CUDA_NAMESPACE=cuda_host)
  # What a kernel loads ahead it uses under the same condition, which GCC does not see.
  target_compile_options(seqfast_host_executor PRIVATE
    $<IF:$<BOOL:${SEQFAST_SANITIZE}>,-O1,-O2> -g1 -fno-math-errno -fno-trapping-math -Wno-maybe-uninitialized)
  target_link_libraries(seqfast_host_executor PRIVATE seqfast_options)
  list(APPEND seqfast_cuda_libraries seqfast_host_executor)
  list(APPEND seqfast_cuda_definitions SEQFAST_HAVE_HOST_EXECUTOR=1)
  list(APPEND seqfast_cuda_bindings csrc/bindings/host_executor.cpp)
  message(STATUS "SEQFAST_CUDA=HOST: the same kernels for the host executor")
else()
  seqfast_add_stub(cuda_host "the host executor")
endif()

# What the bindings say of it in build_info.
list(JOIN seqfast_cuda_architectures "," architectures)
list(APPEND seqfast_cuda_definitions
  SEQFAST_CUDA_STATE="${seqfast_cuda_state}" SEQFAST_CUDA_ARCHITECTURES="${architectures}")
