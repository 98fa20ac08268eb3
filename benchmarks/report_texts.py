"""The text of the pages about speed; benchmarks/report.py adds the figures."""

INDEX = """\
# Speed

`make report` writes this page from `benchmarks/results/`, which `make bench` fills. Do not edit it.
Each machine has a page with everything that was measured on it.

{measured}

Every figure is the ratio of a peer's time to seqfast's, measured in one run: above 1 seqfast is
faster; below 1 it is slower, and the row says so. The cost of a variant is a time factor; a row
above its goal says so. All measurements are shown. `make report` also draws the ratios of every
case; the pictures are in `build/report/<machine>/` and on the site.

## The newest runs in short

{summary}

## How it is measured

- **Alternating runs.** Peer, seqfast, peer, seqfast: two neighbouring samples make a pair, and the
  ratio is the median of the pairs' ratios, so that a change of the machine's speed affects both
  sides. The spread is the interquartile range of these ratios. Times are medians. A call shorter
  than a millisecond is repeated within its sample. Both sides use the same three inputs in turn,
  after a warm-up, with Python's garbage collection off and the same number of threads. Their
  results are compared before they are timed.
- **What is timed.** *forward*: one call under `torch.no_grad()`. *training*: gradients set to
  `None`, forward, and backward from a given gradient of the output to the input and to all
  parameters; no optimizer. Shapes are `steps x batch x input_size x hidden_size`. *packed*: a
  `PackedSequence` in and out. *lengths*: padded in and out; the peer packs and unpacks, seqfast
  takes `lengths=`. *One step*: batch 1, with the state passed from call to call; *of the cell*: by
  `LSTMCell`, `GRUCell`, `RNNCell`.
- **GFLOP/s** count two operations for each multiply-add of the matrix products, for the real steps
  of each row only, and three times the forward pass for training. Gates, biases and additions are
  not counted.
- **FMA peak** is the speed of multiply-adds on registers alone with the same threads and
  instruction set. It is measured before every row, and the run's median is used. float64 has half
  of it. bfloat16 has that of float32, because it accumulates in float32; bfloat16 instructions,
  which the peer always uses and seqfast uses in the forward pass, may exceed it.
- **Floor**: the larger of two times, the operations at FMA peak, and the bytes that must move at
  the speed of a large plain copy, measured in the same run. Bytes count each operand once, as if
  all caches were cold; training also writes and reads the stored values of each step. If everything
  fits into the caches, a warm run may be faster than the second time. No floor includes that every
  step waits for the one before and reads all of `weight_hh` again from a cache. This is what limits
  batches of a few rows.
- **Memory** is the peak memory of a process that trains twice, less its memory before training.
  Each side has its own process; the median of three.
"""

# A machine's page, and the line about its pictures.
PAGE = """\
# Speed: {device}

`make report` writes this page. Do not edit it.
[What is measured, and how to read it](../performance.md).
{pictures}
{suites}"""
PICTURES = """\
`make report` draws the ratio of every case into `build/report/{machine}/`: {names}.
"""

# Notes on the measurements of each suite.
NOTES = {
    "rnn_variants": """
Variants:

- **The peer** is seqfast's own plain layer of the same sizes, with the same weights if the variant
  has as many gates. `coupled_gates` and `reset_gate=False` compute one gate less.
- **Time factor**: the variant's time divided by the plain layer's, the median over the pairs. The
  goal is 1.15 forward and 1.25 in training, for `layer_norm` and `reset_after=False` 1.5 and 1.6;
  larger factors are in bold.
- **Both are in training mode**, so zoneout (p = 0.1, for both states of an LSTM) and *dropout*
  (`recurrent_dropout=0.25` on the hidden state or on the update) also draw masks in *forward*.
  *reset*: 2 % of the mask are True.
""",
    "rnn_steps": """
Single steps:

- *cell*: one call of `LSTMCell`, `GRUCell`, `RNNCell` under `torch.no_grad()`, with given states;
  *layer of one step*: the same for `LSTM`, `GRU`, `RNN`. Such calls take the native path
  (docs/architecture.md): C++ reads and creates the tensors.
- *cell in a loop*: a Python loop over the steps, then backward from the sum of all outputs to all
  parameters. Here a step is torch's own kernel.
- *loss on the last step*: training with a gradient of the last output alone, which decays on its
  way back; the peer is the same layer with a gradient of all outputs. The goal is at most 1.1 times
  its time, a ratio of 0.91.
""",
    "rnn_stream": """
Streams:

- One call of `step` of `layer.stream(batch)` against one call of the layer with the states of the
  call before, under `torch.no_grad()`. *our layer*: seqfast's own. Before it is timed, steps are
  checked to take no memory.
""",
    "rnn_int8": """
8 bits:

- `seqfast.quantize(layer)` under `torch.no_grad()`. The goal is 2 against our float32, and 1.5
  against torch's dynamic quantisation, which has only the LSTM.
- *Perplexity*: of a character model of two LSTM layers (`benchmarks/char_lm.py`) on the files of
  Python's standard library that it was not trained on. The goal is a factor of 1.005 at most.
""",
    "beam_decoder": """
The search:

- **The peer** (`benchmarks/beam_loops.py`) has no loop over rows or beams: `LSTMCell`, `bmm` on a
  memory that all beams share, one `topk` per row on the logits, `index_select` of the states,
  back-pointers followed once. Finished sentences leave its batch, unless the row says *masks*.
- **Correct first.** Both sides must find the same hypotheses before they are timed. Weights are
  random; the head's are scaled, and the EOS is likely enough for lengths from 1 to 50.
- **The floor.** With 32 sentences of 5 beams both sides spend their time in matrix products. In B32
  K5 V10000 H512 the peer computes 137 GFLOP in a search, and seqfast about 110, because it computes
  products that hypotheses share only once. The head alone takes 63. If the peer's products reach
  half of the FMA peak, the largest possible ratio is about 2.5, plus the peer's other work.
""",
    "rnn_loops": """
Loops in Python:

- **The peer** (`benchmarks/loops.py`) multiplies the input for all steps at once, then loops over
  the steps: one `addmm`, `chunk`, activations, `addcmul`; masks by `bernoulli_` or `dropout`, at
  each step if the method requires it; torch's `layer_norm`; one `stack` at the end. Eager, not
  compiled.
- **Correct first.** Both sides have the same weights. In evaluation mode the outputs and all
  gradients of ten steps are compared; in training mode, where each side draws its own masks, only
  the shapes. The timed runs are in training mode, with p = 0.1 for zoneout, 0.25 for dropout.
""",
    "rnn_cuda": """
On a GPU:

- **Clock.** CUDA events around a sample, on the stream that both sides use. Python's launch time is
  included if the GPU would otherwise finish sooner. *graph*: both sides are captured in a CUDA
  graph and replayed, always on the same input.
- **Inputs** are so many that they fill three times the second-level cache; they are used in turn.
- **The peer** has flattened weights and the same types and TF32 setting; for *forward* both sides
  are in `eval()`. *lengths*: the peer packs and unpacks inside the measurement. *packed before*:
  the peer's input is already packed and its output stays packed, without cost; seqfast takes padded
  input and `lengths=` in both cases.
- **Correct first.** Outputs, and for training all gradients, are compared with float64 for some
  rows of the whole batch; a wrong case has no time.
- **of roof**: the floor divided by the time. Operations are at the rate of a large product of that
  type in the same run (float32: or a third of TF32's, if that is more), bytes at that of a large
  copy.
- **predicted**: microseconds per step from `benchmarks/cuda_model.py`, and the measured time
  divided by the expected one; see [cuda_predictions.md](develop/cuda_predictions.md).
- **Memory** is the peak of torch's allocator during a call, without inputs and weights.
""",
    "word2vec": """
Word vectors:

- **Sizes**: d 100, window 5, 5 negatives or hierarchical softmax, `sample` 1e-3, `min_count` 5
  unless the row says otherwise. All words of the file are counted, known or not.
- **The corpus** is about 12.0 million words: part of the English Wikipedia of 2018, 106 articles
  of an older one, the World Factbook; lines are cut at 1,000 words. The grid reads its first
  600,000 words.
- **The peer** reads the same file through `corpus_file`, its fastest way, with as many workers.
  Its vectors are too short for its BLAS to start its own threads.
- **training**: one epoch with an existing vocabulary; a new model for every sample, except in the
  grid. *everything*: from the open file to the vectors after the default five epochs, computed as
  the time before the first epoch plus five times the measured epoch. *vocabulary*: from the open
  file to the sorted words, their counts and the initial vectors (seqfast has then encoded the
  corpus; gensim reads it again in every epoch).
- **Correct first.** Both sides must have the same words and counts, and finite vectors. Their
  quality is measured separately, below.
- **GFLOP/s** count three products of d multiply-adds for every pair of a context and a target (the
  score, two gradients), with the expected numbers of kept words and contexts.
- *per-pair negatives* (`shared_negatives=False`) draws negatives for every pair of words as
  word2vec.c and gensim do; otherwise a window's contexts share them. *deterministic* gives the
  same bits for any number of threads.
- **Two threads** write the same rows, so their speed depends on the distance of the cores. On the
  Zen 4 machine, a virtual one, a cache line usually takes 45 ns from one core to the other, but
  180 ns when the host has put them on parts of the chip that share no cache. Then two threads of
  seqfast take as long as one (an epoch of skip-gram 4.4 s instead of 2.7, per-pair negatives 19
  instead of 9.5), while gensim is hardly slower. The results are from a run with near cores.
""",
    "word2vec_quality": """
Quality of the word vectors (`python -m benchmarks.word2vec_quality`):

- Both sides train on the corpus above: d 100, window 5, 5 negatives or hierarchical softmax,
  `sample` 1e-3, `min_count` 5, five epochs, the default `alpha`. gensim's own methods score both:
  Spearman's correlation with people's judgements of pairs of words, and the share of correct
  answers to Google's analogies among the 30,000 most frequent words.
- Each figure is the mean over the seeds and half their range. *above*, and in bold *below*: the
  mean differs from gensim's by more than the range of gensim's seeds; otherwise the difference is
  within seed noise.
- *legacy_cbow* gives each context of a window the whole gradient of their mean, as word2vec.c and
  gensim do. Otherwise CBOW divides it by the number of contexts, which is the exact gradient and
  needs a larger learning rate: 0.1 in the version measured here; *alpha 0.025* is gensim's rate.
- gensim with several workers on a `corpus_file` lowers its learning rate as if each of them did the
  whole epoch, so two workers end each epoch halfway. This matters most for CBOW.
  `--peer-workers 1` measures gensim without this effect.
""",
    "word2vec_arguments": """
CBOW with the arguments that gensim gets (`python -m benchmarks.word2vec_quality --same-arguments`):

- What code written for gensim passes, `alpha` among it, goes to both sides; three epochs, all else
  as above. seqfast's steps are 1.4 `alpha` (`cbow_step`).
""",
    "glove": """
GloVe:

- **The peer** is the authors' four C programs, built by their Makefile; both sides read the same
  file, theirs write files in between. 100 columns, window 15, `x_max` 100, `min_count` 5.
- *co-occurrences*: from the text to the counted co-occurrences, the vocabulary included. The
  peer's `cooccur` has one thread. *training*: an epoch. *everything*: with 25 epochs.
- **Processor time** is that of all threads of a side together. Where a machine has other work, it
  is what can be compared.
- **Correct first.** Both sides must have the same words, counts and number of co-occurrences, and
  mean losses within a tenth.
""",
    "word2vec_cuda": """
Word vectors on a GPU:

- d 128, window 5, on a repeated corpus, so that the device is busy; rates are words of the text per
  second. *training*: an epoch, from vectors on the host to vectors on the host. *everything*: also
  reads the text. A first epoch warms up.
- **The peer** runs on all cores of the same machine, on the same repeated corpus.
""",
    "beam_search": """
Beam search:

- **The floor of a step** is one read of the logits, as in `logits.max()`: a step must read every
  logit, and moves little else. *Plain reads* is the step's time divided by that of the read. The
  rest is an exponential of each logit, which overlaps with reads from memory but not from a cache,
  and in small steps the call itself and waking a thread.
- **The peer** is `log_softmax` and one `topk` over beams x vocabulary, or `topk` of each row, its
  `logsumexp` and a merge; the summary has the faster one for each size. Both return scores, parents
  and tokens of twice as many candidates as beams; seqfast also writes back-pointers, keeps the pool
  of ended hypotheses and applies the stop rule.
- **Logits** are random, 128 MiB or more, and used in turn by all sides.
""",
    "ctc": """
CTC prefix beam search:

- One thread on both sides, with the same pruning. The random frames resemble a trained model's:
  runs of certain blanks, and tokens of a few frames, some of them undecided between two.
- **Correct first.** By torch's loss over all alignments, seqfast's transcripts must not be less
  probable than the peer's by more than 0.1 nats on average. (The peers keep a prefix twice, once
  for each kind of alignment, so beams of the same size drop different prefixes.)
- **The peers** are flashlight-text 0.0.7 (C++, returning only its best hypothesis) and pyctcdecode
  0.5.0 (Python), both without a language model.
""",
    "ctc_align": """
CTC alignment of a known transcript:

- One row at a time, as the peer takes them, on one thread; random log-probabilities. Both sides
  must find the same alignment.
- seqfast adds up in float64, torchaudio in the type of the log-probabilities.
""",
    "beam_generate": """
Around `transformers`:

- Both sides run the same randomly initialised model for the same number of steps and must return
  the same tokens. The model takes the same time on both sides, which limits the ratio: the larger
  the model relative to its vocabulary, the closer it is to 1.
  On the Zen 4 machine the product of the head alone, one call of torch per step, takes about two
  thirds of seqfast's time at B1 V50257 d256 and three quarters at B8 V32000 d256.
""",
    "beam_search_cuda": """
Beam search on a GPU:

- batch x beams x vocabulary. *Step*: `beam_step` and both formulations of torch, all captured and
  replayed, on inputs that are in no cache; the row names the formulation. *times the roofline*: the
  time divided by that of reading the logits once, at the speed of a copy in the same run.
- *Search*: a whole `BeamSearch` with a model, which is the same on both sides: against a loop in
  torch that is vectorised over batch and beams and does not synchronise
  (`benchmarks/gpu_beam_search.py`), and against `generate` of transformers.
""",
}

SUITE = """\
## {title}

{machine}

{summary}

{tables}"""
