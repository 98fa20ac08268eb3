"""The words of the pages about speed; the figures between them come from benchmarks/report.py."""

INDEX = """\
# Speed

Written by `make report` from `benchmarks/results/`, which `make bench` fills; not edited by hand.
Each machine has a page with everything that was measured there.

{measured}

Every figure is a ratio against a peer, measured in one run: above 1 seqfast is faster, below 1 it
is slower, and the row says so. The cost of a variant is a time factor; above its goal the row
says so. All measurements are shown. `make report` also draws the ratios of every case;
the pictures are in `build/report/<machine>/`, and on the site.

## The newest runs in short

{summary}

## How it is measured

- **In turns.** Peer, seqfast, peer, seqfast: two neighbouring samples make a pair, and the ratio is
  the median of the pairs' ratios, so that a change of the machine's speed hits both sides. The
  spread is the range of the middle half of them. Times are medians. A call shorter than a
  millisecond is repeated within its sample. Both sides work on the same three inputs in turn,
  warmed up, with Python's garbage collection off and the same number of threads. Their results are
  compared before they are timed.
- **What is timed.** *forward*: one call under `torch.no_grad()`. *training*: gradients set to
  `None`, forward, and backward from a given gradient of the output to the input and to all
  parameters; no optimizer. Shapes read `steps x batch x input_size x hidden_size`. *packed*: a
  `PackedSequence` in and out. *lengths*: padded in and out; the peer packs and unpacks, seqfast
  takes `lengths=`. *One step*: batch 1, the state carried from call to call; *of the cell*: by
  `LSTMCell`, `GRUCell`, `RNNCell`.
- **GFLOP/s** count two for each multiply-add of the matrix products, for the steps that are really
  there (past a row's length there is nothing to do), and three times the forward's for training.
  Gates, biases and additions are not counted.
- **FMA peak** is what nothing but multiply-adds on registers reach with the same threads and
  instruction set; it is measured before every row, and the run's median counts. Half of it for
  float64; float32's for bfloat16, which accumulates in float32 (with the processor's bfloat16
  instructions, which the peer uses throughout and seqfast in the forward pass, it may be passed).
- **Floor**: the larger of two times, the operations at FMA peak, and the bytes that must move at
  the speed of a large plain copy, measured in the same run. Bytes count each operand once, as if
  all caches were cold; training also writes and reads back what is kept of each step. Where
  everything fits into the caches a warm run may beat the second. What no floor here sees: every
  step waits for the one before and reads all of `weight_hh` again from a cache, which is what binds
  batches of a few rows.
- **Memory** is the high-water mark of a process that trains twice less what stood there before, in
  a process of each side's own; the median of three.
"""

# A machine's page, and the line about its pictures.
PAGE = """\
# Speed: {device}

Written by `make report`; not edited by hand.
[What is measured, and how to read it](../performance.md).
{pictures}
{suites}"""
PICTURES = """\
`make report` draws the ratio of every case into `build/report/{machine}/`: {names}.
"""

# What else there is to say of a suite's measurements.
NOTES = {
    "rnn_variants": """
Variants:

- **The peer** is seqfast's own plain layer of the same sizes, with the same weights where the
  variant has as many gates. `coupled_gates` and `reset_gate=False` have a gate less to compute.
- **Time factor**: the variant's time over the plain layer's, the median over the pairs. The goal is
  1.15 forward and 1.25 in training, for `layer_norm` and `reset_after=False` 1.5 and 1.6; in bold
  what takes longer.
- **Both are in training**, so that zoneout (p = 0.1, of an LSTM for both states) and *dropout*
  (`recurrent_dropout=0.25` on the hidden state or on the update) draw their masks in *forward* too.
  *reset*: 2 % of all places of the mask are true.
""",
    "rnn_steps": """
Single steps:

- *cell*: one call of `LSTMCell`, `GRUCell`, `RNNCell` under `torch.no_grad()`, with given states;
  *layer of one step*: the same of `LSTM`, `GRU`, `RNN`. Such calls go the native way in
  (docs/architecture.md): tensors are read and made in C++.
- *cell in a loop*: a Python loop over the steps, then backward from the sum of all outputs to all
  parameters. These calls go through Python's checks.
""",
    "beam_decoder": """
The search:

- **The peer** (`benchmarks/beam_loops.py`) has no loop over rows or beams: `LSTMCell`, `bmm` on a
  memory that all beams share, one `topk` per row on the logits, `index_select` of the states,
  back-pointers walked once. Finished sentences leave its batch, but where the row says *masks*.
- **Correct first.** Both sides must find the same hypotheses before they are timed. Weights are
  drawn; the head's are scaled, and the EOS is likely enough for lengths from 1 to 50.
- **The floor.** With 32 sentences of 5 beams both sides spend their time in products of matrices.
  In B32 K5 V10000 H512 the peer multiplies 137 GFLOP in a search, seqfast some 110 (what siblings
  share once), of which the head alone takes 63. Against a peer whose products reach half of the FMA
  peak no more than 2.5 times its speed can be had, but for what it does besides.
""",
    "rnn_loops": """
Loops in Python:

- **The peer** (`benchmarks/loops.py`) multiplies the input for all steps at once, then goes through
  the steps: one `addmm`, `chunk`, activations, `addcmul`; masks by `bernoulli_` or `dropout`, for
  each step where the method says so; `layer_norm` is torch's; one `stack` at the end. Eager, not
  compiled.
- **Correct first.** Both sides have the same weights. In evaluation, where nothing is drawn, the
  outputs and all gradients of ten steps are compared; in training, where each side draws masks of
  its own, their shapes. What is timed is in training, with p = 0.1 for zoneout, 0.25 for dropout.
""",
    "rnn_cuda": """
On a GPU:

- **Clock.** CUDA events around a sample, on the stream that both sides use. What Python needs to
  launch counts where the GPU would be done sooner. *graph*: both sides captured in a CUDA graph
  and replayed, always on the same input.
- **Inputs** are as many as fill three times the second-level cache, taken in turn.
- **The peer** has its weights flattened, the same types and TF32 setting, and for *forward* is in
  `eval()` as seqfast is. *lengths*: the peer packs and unpacks inside the measurement. *packed
  before*: the peer's input came packed and its output stays packed, which costs it nothing here;
  seqfast takes padded input and `lengths=` in both.
- **Correct first.** Outputs, and for training all gradients, are compared with float64 for some
  rows of the whole batch; a case that is off has no time.
- **of roof**: the floor over the time. Operations at the rate of a large product of that type in
  the same run (float32: or a third of TF32's, if that is more), bytes at that of a large copy.
- **predicted**: microseconds a step as `benchmarks/cuda_model.py` has them, and what was measured
  over their expected value; see [cuda_predictions.md](develop/cuda_predictions.md).
- **Memory** is the most that torch's allocator handed out during a call, beyond inputs and weights.
""",
    "word2vec": """
Word vectors:

- **Sizes**: d 100, window 5, 5 negatives or hierarchical softmax, `sample` 1e-3, `min_count` 5
  unless the row says otherwise. Words are counted as they stand in the file, known or not.
- **The corpus** is about 12.0 million words: part of the English Wikipedia of 2018, 106 articles
  of an old one, the World Factbook; lines are cut at 1,000 words. The grid reads its first 600,000
  words.
- **The peer** reads the same file through `corpus_file`, its fastest way, with as many workers.
  Its vectors are too short for its BLAS to start threads of its own.
- **training**: one epoch, the vocabulary being there; by a new model in every turn, in the grid
  the same model goes on. *everything*: from the open file to the vectors of the default five
  epochs, that is what comes before the first epoch and five times the epoch that was measured.
  *vocabulary*: from the open file to the sorted words, their counts and the first vectors (seqfast
  has encoded the corpus by then, gensim reads it again in every epoch).
- **Correct first.** Both sides must have the same words and counts, and vectors that are numbers.
  How good they are is measured apart, below.
- **GFLOP/s** count three products of d multiply-adds for every pair of a context and a target (the
  score, two gradients), by the expected numbers of kept words and contexts.
- *per-pair negatives* (`shared_negatives=False`) draws negatives for every pair of words as
  word2vec.c and gensim do; otherwise a window's contexts share them. *deterministic* gives the
  same bits for any number of threads.
- **Two threads** write the same rows, so they depend on how far the cores are apart. On the Zen 4
  machine, a virtual one, a cache line goes from one to the other in 45 ns at most times and in 180
  at others, when its host has put them on parts of the chip that share no cache. Then two threads
  of seqfast take as long as one (an epoch of skip-gram 4.4 s in place of 2.7, per-pair negatives 19
  in place of 9.5), while gensim, which does less in the same time, hardly suffers. Its results are
  from a run in which the cores were near.
""",
    "word2vec_quality": """
How good the word vectors are (`python -m benchmarks.word2vec_quality`):

- Both sides learn from the corpus above: d 100, window 5, 5 negatives or hierarchical softmax,
  `sample` 1e-3, `min_count` 5, five epochs, the default `alpha`. gensim's own methods score both:
  Spearman's correlation with people's judgments of pairs of words, and the share of right answers
  to Google's analogies among the 30,000 commonest words.
- Each figure is a mean over the seeds with half their range. *above*, and in bold *below*: the
  mean differs from gensim's by more than the range of gensim's seeds; otherwise it is within seed
  noise.
- *legacy_cbow* gives each context of a window the whole gradient of their mean, as word2vec.c and
  gensim do; CBOW otherwise divides it by the number of contexts, which is the gradient, and wants a
  larger learning rate: 0.1 in the version measured here; *alpha
  0.025* shows gensim's.
- gensim with several workers on a `corpus_file` lowers its learning rate as if each of them had the
  whole epoch to do, so that two workers end each epoch halfway; it shows most in CBOW.
  `--peer-workers 1` measures it without that.
""",
    "word2vec_cuda": """
Word vectors on a GPU:

- d 128, window 5, on the corpus repeated, so that the device has something to do; rates are words
  of the text in a second. *training*: an epoch, from vectors on the host to vectors on the host.
  *everything*: with reading the text. A first epoch warms up.
- **The peer** runs on all cores of the same machine, on the same repeated corpus.
""",
    "beam_search": """
Beam search:

- **The floor of a step** is one read of the logits, as `logits.max()` does it: every logit has to
  be looked at, and little else moves. *Plain reads* is the distance from it. What is between: an
  exponential of each logit, which hides behind memory but not behind a cache, and in small steps
  the call itself and the waking of a thread.
- **The peer** is `log_softmax` and one `topk` over beams x vocabulary, or `topk` of each row, its
  `logsumexp` and a merge; the summary has the faster one of each size. Both return scores, parents
  and tokens of twice as many candidates as beams; seqfast also writes back-pointers, keeps the pool
  of ended hypotheses and applies the stop rule.
- **Logits** are drawn once, 128 MiB of them or more, and taken in turn by all sides.
""",
    "ctc": """
CTC prefix beam search:

- One thread on both sides; the same pruning, by the names that each side has for it. Frames are
  drawn like a trained model's: runs of sure blanks, tokens of a few frames, some of them in doubt
  between two.
- **Correct first.** The transcripts may not be less probable than the peer's, over all alignments
  by torch's loss, by more than 0.1 nats on average: the peers keep a prefix twice, for both kinds
  of alignments, so that beams of one size lose different ones.
- **The peers** are flashlight-text 0.0.7 (C++, asked for its best hypothesis alone) and pyctcdecode
  0.5.0 (Python), neither with a language model.
""",
    "beam_generate": """
Around `transformers`:

- Both sides run the same randomly initialised model for as many steps and must return the same
  tokens. What the model itself takes is the same on both sides, and bounds the ratio: the larger
  the model beside its vocabulary, the nearer to 1.
  On the Zen 4 machine the product of the head alone, one call of torch a step, takes about two
  thirds of seqfast's time at B1 V50257 d256 and three quarters at B8 V32000 d256.
""",
    "beam_search_cuda": """
Beam search on a GPU:

- batch x beams x vocabulary. *Step*: `beam_step` and both formulations of torch, all captured and
  replayed, on inputs that no cache holds; the row names the formulation. *times the roofline*: of
  reading the logits once, at the speed of a copy measured in the same run.
- *Search*: `BeamSearch` with what else a search does, the model included, both sides around the
  same model: against a loop in torch that is vectorised over batch and beams and waits for nothing
  (`benchmarks/gpu_beam_search.py`), and against `generate` of transformers.
""",
}

SUITE = """\
## {title}

{machine}

{summary}

{tables}"""
