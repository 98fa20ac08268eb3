# One object library per instruction set, all from the same sources; dispatch.cpp picks one at start.
# The longest first, so that none is left for one core at the end.
set(seqfast_isa_sources
  csrc/cpu/rnn/backward.cpp
  csrc/cpu/rnn/forward.cpp
  csrc/cpu/word2vec/word2vec.cpp
  csrc/cpu/beam_search/beam_search.cpp
  csrc/cpu/base/gemm.cpp
  csrc/cpu/base/int8.cpp
  csrc/cpu/decoder/decoder.cpp
  csrc/cpu/ctc/ctc.cpp
  csrc/cpu/ctc/align.cpp
  csrc/cpu/ctc_decoder/ctc_decoder.cpp
  csrc/cpu/glove/glove.cpp
  csrc/cpu/top_k/top_k.cpp
  csrc/cpu/dropout/dropout.cpp
  csrc/cpu/peak/peak.cpp)
# The passes are many cells in many types: -O3 takes half as long again for no speed that can be
# measured. What it does for loops of constant length they need.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT SEQFAST_SANITIZE)
  set_source_files_properties(csrc/cpu/rnn/backward.cpp csrc/cpu/rnn/forward.cpp
    PROPERTIES COMPILE_OPTIONS "-O2;-fpeel-loops;-fvect-cost-model=dynamic")
endif()
# With sanitizers, -O3 takes seven times as long to compile as -O1.
set(seqfast_optimisation -O3)
if(SEQFAST_SANITIZE)
  set(seqfast_optimisation -O1)
endif()
set(seqfast_isa_libraries)
set(seqfast_isa_definitions)

set(SEQFAST_ISAS "all" CACHE STRING
  "Instruction sets beside the baseline: all, native (the best of this machine), or a list of names")
set(seqfast_wanted_isas ${SEQFAST_ISAS})
if(SEQFAST_ISAS STREQUAL "native")
  if(NOT DEFINED seqfast_native_isa)
    try_run(ran compiled SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/cmake/native_isa.cpp
      CMAKE_FLAGS -DINCLUDE_DIRECTORIES=${CMAKE_CURRENT_SOURCE_DIR}/csrc
      RUN_OUTPUT_STDOUT_VARIABLE answer COMPILE_OUTPUT_VARIABLE said)
    if(NOT compiled OR NOT ran EQUAL 0)
      message(FATAL_ERROR "SEQFAST_ISAS=native: cannot ask this processor what it runs; "
        "name the sets instead, or all\n${said}")
    endif()
    string(STRIP "${answer}" answer)
    set(seqfast_native_isa ${answer} CACHE INTERNAL "The best instruction set of this machine")
  endif()
  set(seqfast_wanted_isas ${seqfast_native_isa})
endif()
set(seqfast_known_isas)

function(seqfast_add_isa name)
  list(APPEND seqfast_known_isas ${name})
  set(seqfast_known_isas ${seqfast_known_isas} PARENT_SCOPE)
  if(NOT name STREQUAL "baseline" AND NOT SEQFAST_ISAS STREQUAL "all"
     AND NOT name IN_LIST seqfast_wanted_isas)
    return()
  endif()
  add_library(seqfast_cpu_${name} OBJECT ${seqfast_isa_sources})
  # Traps and errno are never read here, and both forbid vectorising; NaN and infinity keep their meaning.
  target_compile_options(seqfast_cpu_${name} PRIVATE
    ${seqfast_optimisation} -fno-math-errno -fno-trapping-math -ffp-contract=fast ${ARGN})
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
  seqfast_add_isa(avx512bf16 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mavx512vnni -mfma -mf16c
    -mprefer-vector-width=512)
endif()

foreach(name IN LISTS seqfast_wanted_isas)
  if(NOT name IN_LIST seqfast_known_isas AND NOT name STREQUAL "all")
    list(JOIN seqfast_known_isas ", " known)
    message(FATAL_ERROR "SEQFAST_ISAS must be all, native, or a list of ${known}, got '${name}'")
  endif()
endforeach()
