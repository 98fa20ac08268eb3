# One object library per instruction set, all from the same sources; dispatch.cpp picks one at start.
# The longest first, so that none is left for one core at the end.
set(seqfast_isa_sources
  csrc/cpu/rnn/backward.cpp
  csrc/cpu/rnn/forward.cpp
  csrc/cpu/word2vec/word2vec.cpp
  csrc/cpu/beam_search/beam_search.cpp
  csrc/cpu/base/gemm.cpp
  csrc/cpu/decoder/decoder.cpp
  csrc/cpu/ctc/ctc.cpp
  csrc/cpu/top_k/top_k.cpp
  csrc/cpu/dropout/dropout.cpp
  csrc/cpu/peak/peak.cpp)
# The passes are many cells in many types: -O3 takes half as long again for no speed that can be
# measured. What it does for loops of constant length they need.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set_source_files_properties(csrc/cpu/rnn/backward.cpp csrc/cpu/rnn/forward.cpp
    PROPERTIES COMPILE_OPTIONS "-O2;-fpeel-loops;-fvect-cost-model=dynamic")
endif()
set(seqfast_isa_libraries)
set(seqfast_isa_definitions)

function(seqfast_add_isa name)
  add_library(seqfast_cpu_${name} OBJECT ${seqfast_isa_sources})
  # Traps and errno are never read here, and both forbid vectorising; NaN and infinity keep their meaning.
  target_compile_options(seqfast_cpu_${name} PRIVATE
    -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast ${ARGN})
  target_compile_definitions(seqfast_cpu_${name} PRIVATE SEQFAST_ISA=${name})
  target_link_libraries(seqfast_cpu_${name} PRIVATE seqfast_options)
  string(TOUPPER ${name} upper)
  set(seqfast_isa_libraries ${seqfast_isa_libraries} seqfast_cpu_${name} PARENT_SCOPE)
  set(seqfast_isa_definitions ${seqfast_isa_definitions} SEQFAST_HAVE_${upper}=1 PARENT_SCOPE)
endfunction()

seqfast_add_isa(baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  seqfast_add_isa(avx2 -mavx2 -mfma -mf16c)
  seqfast_add_isa(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c
    -mprefer-vector-width=512)
  seqfast_add_isa(avx512bf16 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mfma -mf16c
    -mprefer-vector-width=512)
endif()
