# Chooses what stands behind the CUDA entry points: for now always the stub, which raises.
set_property(CACHE SEQFAST_CUDA PROPERTY STRINGS AUTO ON OFF HOST)
if(SEQFAST_CUDA STREQUAL "ON" OR SEQFAST_CUDA STREQUAL "HOST")
  message(FATAL_ERROR
    "SEQFAST_CUDA=${SEQFAST_CUDA}: this version of seqfast has no CUDA kernels yet; use AUTO or OFF")
elseif(SEQFAST_CUDA STREQUAL "AUTO")
  message(STATUS "SEQFAST_CUDA=AUTO: no CUDA kernels in this version, building csrc/cuda/no_cuda.cpp")
elseif(NOT SEQFAST_CUDA STREQUAL "OFF")
  message(FATAL_ERROR "SEQFAST_CUDA must be AUTO, ON, OFF or HOST, got ${SEQFAST_CUDA}")
endif()
set(seqfast_cuda_state "off")
add_library(seqfast_cuda OBJECT csrc/cuda/no_cuda.cpp)
target_link_libraries(seqfast_cuda PRIVATE seqfast_options)
