/* The table of options and the table of commands.
 *
 * The order of rows is the order of the help. Words of a CHOICE stand in the order of the enum
 * they become: window as enum decoder_window, exif as enum image_exif, passes as enum
 * image_pass_order, log-level as enum log_level, embed-scale as enum option_embed_scale, device as
 * enum option_device, isa as enum ops_isa, weights as enum weights_form,
 * activations as enum ops_activations, comm as enum comm_transport,
 * greedy as enum engine_greedy.
 *
 * A key stands twice where commands have different defaults for it. */
#include "options.h"

#include <string.h>

#include "options_impl.h"

enum {
    LOADS = COMMAND_RUN | COMMAND_DUMP | COMMAND_INFO | COMMAND_BATCH, /* commands of one model */
    ALL = LOADS | COMMAND_BENCH | COMMAND_PLAN | COMMAND_STATUS | COMMAND_CHECK | COMMAND_EXPORT |
          COMMAND_CONVERT | COMMAND_SIMULATE,
    ANY = ALL | COMMAND_NONE,
    RANKS = COMMAND_RUN | COMMAND_DUMP | COMMAND_BATCH, /* commands of one model that start MPI */
    ANSWERS = COMMAND_RUN | COMMAND_BATCH,
    BATCH = COMMAND_BATCH,
    INPUT = COMMAND_BATCH | COMMAND_CHECK, /* commands that read a data set */
    BENCH = COMMAND_BENCH,
    RUN = COMMAND_RUN,
    DUMP = COMMAND_DUMP,
    PLAN = COMMAND_PLAN,
};

#define AT(member) offsetof(struct options, member)

const struct option_row option_rows[] = {
    /* model */
    {"model", 'm', OPTION_TEXT, AT(model), NULL, 0, 0, NULL, "DIR",
     LOADS | COMMAND_CONVERT | COMMAND_CHECK,
     "checkpoint folder, converted model.h5, or synthetic:3b-224?seed=1 for random weights"},
    {"model", 'm', OPTION_TEXT, AT(model), NULL, 0, 0, NULL, "NAME", PLAN,
     "3b-224, 10b-448, 28b-896 and the like, or a checkpoint folder"},
    {"model", 'm', OPTION_TEXT, AT(model), NULL, 0, 0, NULL, "LIST", BENCH,
     "checkpoint folders or synthetic:3b-224 and the like"},
    {"tokenizer", 0, OPTION_TEXT, AT(tokenizer), NULL, 0, 0, NULL, "DIR", RANKS | COMMAND_CHECK,
     "folder of tokenizer.model, if it is not the model's"},
    {"window", 0, OPTION_CHOICE, AT(window), "none", 0, 0, "none|hf", NULL, RANKS,
     "sliding window while decoding: none as trained, hf as transformers does"},
    {"attn-softcap", 0, OPTION_REAL, AT(attn_softcap), "config", 0, 1e6, "config", "X", RANKS,
     "soft-cap of attention scores instead of the checkpoint's; 0 is off"},
    {"logit-softcap", 0, OPTION_REAL, AT(logit_softcap), "config", 0, 1e6, "config", "X", RANKS,
     "soft-cap of logits instead of the checkpoint's; 0 is off"},
    {"embed-scale", 0, OPTION_CHOICE, AT(embed_scale), "auto", 0, 0, "auto|f32|bf16|f16", NULL,
     RANKS, "type to which the scale of text embeddings is rounded; auto is the checkpoint's"},
    {"weights", 'w', OPTION_CHOICE, AT(weights), "auto", 0, 0, "auto|bf16|int8|int4", NULL,
     LOADS | PLAN | COMMAND_CONVERT,
     "how the decoder's matrices are held in memory; auto is as they are stored"},
    {"activations", 0, OPTION_CHOICE, AT(activations), "auto", 0, 0, "auto|int8", NULL,
     RANKS | BENCH, "int8: a prompt's inputs of int8 matrices are int8, too; auto: more exact"},
    {"int4-group", 0, OPTION_CHOICE, AT(int4_group), "32", 0, 0, "32|64", NULL,
     LOADS | PLAN | BENCH | COMMAND_CONVERT,
     "int4: weights of a row that share a scale and a minimum"},
    {"load", 0, OPTION_CHOICE, AT(load), "read", 0, 0, "read|map", NULL, RANKS | BENCH,
     "map: use the file's pages in place, one copy a node; not checked for NaN while loading"},
    /* images and prompts */
    {"prompt", 'p', OPTION_LIST, AT(prompts), NULL, 0, 0, NULL, "TEXT", RUN,
     "what to ask of each image; may be repeated"},
    {"image", 0, OPTION_LIST, AT(images), NULL, 0, 0, NULL, "FILE", RUN,
     "an image, like the arguments without a key; may be repeated"},
    {"list", 0, OPTION_TEXT, AT(list), NULL, 0, 0, NULL, "FILE.tsv", RUN,
     "lines of image<TAB>prompt instead of IMAGE and --prompt"},
    {"images", 0, OPTION_TEXT, AT(images_dir), NULL, 0, 0, NULL, "DIR", RUN | DUMP,
     "folder of the images named in --list (default: the list's own) or --cases"},
    {"together", 0, OPTION_FLAG, AT(together), "false", 0, 0, NULL, NULL, RUN,
     "all images in one prompt, where <image> in the text stands or in front"},
    {"parse-special", 0, OPTION_FLAG, AT(parse_special), "false", 0, 0, NULL, NULL, RANKS,
     "<bos>, <eos> and the like in prompts become those tokens, as in transformers"},
    {"exif", 0, OPTION_CHOICE, AT(exif), "apply", 0, 0, "apply|ignore", NULL, RANKS,
     "the orientation that a camera noted"},
    {"passes", 0, OPTION_CHOICE, AT(passes), "pillow13", 0, 0, "pillow13|horizontal-first", NULL,
     RANKS, "order of the resize's two passes: as Pillow 13, or as Pillow up to 12"},
    {"max-pixels", 0, OPTION_INT, AT(max_pixels), "134217728", 1, 2147483647, NULL, "N", RANKS,
     "larger images are refused"},
    /* generation */
    {"max-new-tokens", 'n', OPTION_INT, AT(max_new_tokens), "64", 1, 8192, NULL, "N", ANSWERS | COMMAND_CHECK,
     "longest answer"},
    {"greedy", 0, OPTION_CHOICE, AT(greedy), "full", 0, 0, "full|screened", NULL,
     ANSWERS | PLAN | COMMAND_INFO,
     "screened: the same tokens from fewer bytes, through an int8 copy; no log-probabilities"},
    {"beams", 0, OPTION_INT, AT(beams), "1", 1, 16, NULL, "N", ANSWERS,
     "beams of a beam search; 1 is none"},
    {"length-penalty", 0, OPTION_REAL, AT(length_penalty), "1", -10, 10, NULL, "X", ANSWERS,
     "beams: score = log-probability / length^X"},
    {"temperature", 0, OPTION_REAL, AT(temperature), "0", 0, 100, NULL, "X", ANSWERS,
     "above 0 draws the tokens by chance; 0 takes the likeliest"},
    {"top-k", 0, OPTION_INT, AT(top_k), "0", 0, 1048576, NULL, "N", ANSWERS,
     "drawing: among the N likeliest; 0 is all"},
    {"top-p", 0, OPTION_REAL, AT(top_p), "1", 1e-6, 1, NULL, "X", ANSWERS,
     "drawing: among the likeliest that make up this probability"},
    {"seed", 0, OPTION_SEED, AT(seed), "0", 0, 0, NULL, "N", ANSWERS,
     "drawing: the same seed gives the same answers"},
    {"ignore-eos", 0, OPTION_FLAG, AT(ignore_eos), "false", 0, 0, NULL, NULL, ANSWERS,
     "go on to --max-new-tokens whatever the model says"},
    /* dump */
    {"cases", 0, OPTION_TEXT, AT(cases), NULL, 0, 0, NULL, "FILE.json", DUMP, "what to run"},
    {"out", 'o', OPTION_TEXT, AT(out), NULL, 0, 0, NULL, "FILE.h5", DUMP, "where the arrays go"},
    {"out", 'o', OPTION_TEXT, AT(out), NULL, 0, 0, NULL, "FILE.h5", COMMAND_CONVERT,
     "where the converted model goes"},
    {"force", 0, OPTION_TEXT, AT(force), NULL, 0, 0, NULL, "FILE.h5", DUMP,
     "feed back the tokens of another dump instead of the chosen ones"},
    {"steps", 0, OPTION_INT, AT(steps), "12", 1, 4096, NULL, "N", DUMP,
     "tokens for cases that do not say how many"},
    /* bench */
    {"phases", 0, OPTION_TEXT, AT(bench_phases), "vision,prefill,decode,load,comm,e2e", 0, 0, NULL,
     "LIST", BENCH, "what to measure"},
    {"weights", 'w', OPTION_TEXT, AT(bench_weights), "auto", 0, 0, NULL, "LIST", BENCH,
     "how the decoder's matrices are held: auto, bf16, int8, int4"},
    {"greedy", 0, OPTION_TEXT, AT(bench_greedy), "full", 0, 0, NULL, "LIST", BENCH,
     "how greedy tokens are found: full, screened"},
    {"threads", 't', OPTION_TEXT, AT(bench_threads), "0", 0, 0, NULL, "LIST", BENCH,
     "threads of each rank; 0 is its share of the CPUs it may use"},
    {"batch", 'b', OPTION_TEXT, AT(bench_batch), "1", 0, 0, NULL, "LIST", BENCH,
     "sequences that share steps; rates are of all of them together"},
    {"repetitions", 'r', OPTION_INT, AT(bench_repetitions), "5", 1, 100, NULL, "N", BENCH,
     "rounds that count; as many again may be thrown away as unsteady"},
    {"text-tokens", 0, OPTION_INT, AT(bench_text_tokens), "16", 1, 4096, NULL, "N", BENCH,
     "tokens of a prompt besides the image's"},
    {"max-new-tokens", 'n', OPTION_INT, AT(max_new_tokens), "16", 2, 8192, NULL, "N", BENCH,
     "tokens of an answer"},
    {"account", 0, OPTION_FLAG, AT(bench_account), "false", 0, 0, NULL, NULL, BENCH,
     "tell where rank 0's time went"},
    {"paced", 0, OPTION_FLAG, AT(bench_paced), "false", 0, 0, NULL, NULL, BENCH,
     "a round for each line of standard input, which is its batch; 0: the probes alone"},
    {"output", 'o', OPTION_CHOICE, AT(bench_output), "text", 0, 0, "text|json|csv", NULL, BENCH,
     "form of the rows"},
    /* plan */
    {"nodes", 0, OPTION_INT, AT(plan_nodes), "1", 1, 65536, NULL, "N", PLAN, "nodes of the job"},
    {"ranks-per-node", 0, OPTION_INT, AT(plan_ranks_per_node), "1", 1, 4096, NULL, "N", PLAN,
     "ranks on each"},
    {"memory", 0, OPTION_TEXT, AT(plan_memory), NULL, 0, 0, NULL, "SIZE", PLAN,
     "what a rank may use, like 80GB or 512MiB"},
    {"tp", 0, OPTION_INT, AT(plan_tp), "0", 0, 128, NULL, "N", PLAN,
     "ranks of a replica; 0 shows all that divide the ranks"},
    {"input-count", 0, OPTION_SEED, AT(plan_input_count), "0", 0, 0, NULL, "N", PLAN,
     "images of the data set"},
    {"prompt-tokens", 0, OPTION_INT, AT(plan_prompt_tokens), "16", 1, 4096, NULL, "N", PLAN,
     "tokens of a prompt besides the image's"},
    {"max-new-tokens", 'n', OPTION_INT, AT(max_new_tokens), "32", 1, 8192, NULL, "N", PLAN,
     "tokens of an answer"},
    {"batch", 'b', OPTION_INT, AT(plan_batch), "8", 1, 4096, NULL, "N", PLAN,
     "sequences that share decode steps in a replica"},
    {"device", 0, OPTION_CHOICE, AT(device), "cpu", 0, 0, "cpu|a100|h100", NULL, PLAN,
     "assumed rates: a node of 64 cores, or of four GPUs"},
    {"machine", 0, OPTION_TEXT, AT(plan_machine), NULL, 0, 0, NULL, "FILE", PLAN,
     "rates instead of the assumed ones: rows of bench --account -o json, or key = value lines"},
    {"print-machine", 0, OPTION_FLAG, AT(plan_print_machine), "false", 0, 0, NULL, NULL, PLAN,
     "print the rates as key = value lines and exit"},
    /* batch and export */
    {"input", 'i', OPTION_TEXT, AT(input), NULL, 0, 0, NULL, "SOURCE", INPUT,
     "the data set: a file, folder, glob, @LIST, - for stdin, or shards-{0000..0009}.tar"},
    {"format", 0, OPTION_CHOICE, AT(input_format), "auto", 0, 0,
     "auto|manifest|files|list|openai|folder|coco|tar|h5", NULL, INPUT,
     "of --input; auto looks at its name and its first bytes"},
    {"prompt", 'p', OPTION_LIST, AT(prompts), NULL, 0, 0, NULL, "TEXT", INPUT,
     "asked of each image, instead of the input's own; {field} stands for a field of the record"},
    {"images", 0, OPTION_TEXT, AT(images_dir), NULL, 0, 0, NULL, "DIR", INPUT,
     "folder of the images that --input names; default: its own"},
    {"output-path", 'o', OPTION_TEXT, AT(output_path), NULL, 0, 0, NULL, "DIR",
     INPUT | COMMAND_EXPORT, "where results go; the same command goes on with what is there"},
    {"shards", 0, OPTION_INT, AT(shards), "0", 0, 999, NULL, "N", BATCH,
     "share the output directory with other jobs: each takes the next of N shards that is free"},
    {"export", 0, OPTION_TEXT, AT(exports), NULL, 0, 0, NULL, "LIST", BATCH | COMMAND_EXPORT,
     "more result files: coco-caption, coco-detection, vqa, openai, imagefolder, no-h5"},
    {"categories", 0, OPTION_TEXT, AT(categories), NULL, 0, 0, NULL, "FILE.json",
     BATCH | COMMAND_EXPORT, "COCO file that numbers the labels of coco-detection"},
    {"tp", 0, OPTION_INT, AT(tp), "0", 0, 128, NULL, "T", BATCH,
     "ranks of a replica; 0 is the fewest whose memory holds the model"},
    {"replicas", 0, OPTION_INT, AT(replicas), "0", 0, 1e6, NULL, "R", BATCH,
     "replicas; 0 is as many as the ranks make"},
    {"allow-idle", 0, OPTION_FLAG, AT(allow_idle), "false", 0, 0, NULL, NULL, BATCH,
     "ranks may be left over"},
    {"memory", 0, OPTION_TEXT, AT(memory), NULL, 0, 0, NULL, "SIZE", BATCH,
     "what a rank may use, like 80GB; default: nine tenths of its share of what is free"},
    {"batch", 'b', OPTION_INT, AT(batch), "8", 1, 1024, NULL, "N", BATCH,
     "sequences that share decode steps in a replica; the answers do not depend on it"},
    {"vision", 0, OPTION_CHOICE, AT(vision), "auto", 0, 0, "tensor|data|auto", NULL, BATCH,
     "pictures: each by all ranks of a replica, or each by one; auto: by their number"},
    {"limit", 0, OPTION_REAL, AT(limit), "10000", 0, 1e15, "all", "N", COMMAND_CHECK,
     "records to look at"},
    {"limit", 0, OPTION_REAL, AT(limit), "all", 0, 1e15, "all", "N", BATCH, "records, at most"},
    {"max-images", 0, OPTION_INT, AT(max_images), "0", 0, 64, NULL, "N", BATCH,
     "pictures of a record, or frames; 0 looks at the first records of the input"},
    {"max-text-tokens", 0, OPTION_INT, AT(max_text_tokens), "256", 16, 65536, NULL, "N", BATCH,
     "room for a prompt's text; longer ones fail"},
    {"frames", 0, OPTION_INT, AT(frames), "16", 1, 64, NULL, "N", INPUT, "of a video"},
    {"sampling", 0, OPTION_CHOICE, AT(sampling), "uniform", 0, 0, "uniform|stride|fps", NULL, INPUT,
     "which frames: spread over the video, every so many, or so many a second"},
    {"sampling-step", 0, OPTION_REAL, AT(sampling_step), "1", 1e-6, 1e6, NULL, "X", INPUT,
     "of --sampling stride or fps"},
    {"short", 0, OPTION_CHOICE, AT(shortage), "tile", 0, 0, "tile|repeat", NULL, INPUT,
     "a video of too few frames: from the first on again, or the last one again"},
    {"max-error-rate", 0, OPTION_REAL, AT(max_error_rate), "0.05", 0, 1, NULL, "X", INPUT,
     "stop when a larger share of at least 100 records fails; 1: never"},
    {"retry-errors", 0, OPTION_TEXT, AT(retry_errors), NULL, 0, 0, "all", "CLASS", BATCH,
     "do failed records again: all, or --retry-errors=CLASS (missing, denied, input, timeout, ...)"},
    {"deadline", 0, OPTION_REAL, AT(deadline_s), "0", 0, 1e9, NULL, "SECONDS", INPUT,
     "end in order, with exit status 75, so long after the start; 0: when all is done"},
    {"drain", 0, OPTION_REAL, AT(drain_s), "20", 0, 1e6, NULL, "SECONDS", BATCH,
     "after SIGTERM, SIGUSR1 or SIGINT: longest wait for answers that have begun"},
    {"sync", 0, OPTION_REAL, AT(sync_s), "5", 0, 3600, NULL, "SECONDS", BATCH,
     "results are on disk at the latest so long after they were made"},
    {"queue-memory", 0, OPTION_TEXT, AT(queue_memory), "256MiB", 0, 0, NULL, "SIZE", BATCH,
     "bound of each queue: samples ahead, pictures ahead, results not yet written"},
    {"progress", 0, OPTION_REAL, AT(progress_s), "30", 0, 86400, NULL, "SECONDS", BATCH,
     "a line so often; a terminal gets a bar; 0: none"},
    /* check */
    {"index", 0, OPTION_TEXT, AT(check_index), NULL, 0, 0, NULL, "FILE", COMMAND_CHECK,
     "SHA-256 digests of the checkpoint's files, as sha256sum writes them; default: its SHA256SUMS"},
    {"write-index", 0, OPTION_FLAG, AT(check_write_index), "false", 0, 0, NULL, NULL, COMMAND_CHECK,
     "write that list instead of comparing with it"},
    /* simulate */
    {"output-path", 'o', OPTION_TEXT, AT(output_path), NULL, 0, 0, NULL, "DIR", COMMAND_SIMULATE,
     "an empty directory to work in"},
    {"replicas", 0, OPTION_INT, AT(replicas), "1000", 1, 1e5, NULL, "R", COMMAND_SIMULATE,
     "replicas that wait instead of computing"},
    {"batch", 'b', OPTION_INT, AT(batch), "1", 1, 1024, NULL, "N", COMMAND_SIMULATE,
     "records that each has under way"},
    {"records", 0, OPTION_REAL, AT(simulate_records), "100000", 1, 1e9, NULL, "N", COMMAND_SIMULATE,
     "of the data set"},
    {"service-ms", 0, OPTION_REAL, AT(simulate_ms), "50", 0, 1e6, NULL, "MS", COMMAND_SIMULATE,
     "how long a record takes"},
    /* status */
    {"output-path", 'o', OPTION_TEXT, AT(status_dir), NULL, 0, 0, NULL, "DIR", COMMAND_STATUS,
     "output directory of a run, like the argument without a key"},
    {"every", 0, OPTION_REAL, AT(status_every_s), "0", 0, 86400, NULL, "SECONDS", COMMAND_STATUS,
     "show again so often until the run has ended; 0: once"},
    /* program */
    {"device", 0, OPTION_CHOICE, AT(device), "auto", 0, 0, "auto|cpu|ref|cuda", NULL,
     ANSWERS | BENCH,
     "cuda: a GPU; cpu: threads and vector instructions; ref: plain loops; auto: the first there is"},
    {"device", 0, OPTION_CHOICE, AT(device), "ref", 0, 0, "auto|cpu|ref|cuda", NULL, DUMP,
     "ref: plain loops, the specification; cpu: threads and vector instructions"},
    {"isa", 0, OPTION_CHOICE, AT(isa), "auto", 0, 0, "auto|avx2|avx512|avx512_bf16|amx", NULL,
     RANKS | BENCH, "instructions of --device cpu; auto is the best that is there"},
    {"share-gpu", 0, OPTION_FLAG, AT(share_gpu), "false", 0, 0, NULL, NULL, RANKS | BENCH,
     "let several ranks compute on one GPU"},
    {"reproducible", 0, OPTION_FLAG, AT(reproducible), "false", 0, 0, NULL, NULL, RANKS | BENCH,
     "GPUs: the same bits on every rank count and batch, without cuBLASLt"},
    {"cuda-graphs", 0, OPTION_FLAG, AT(cuda_graphs), "true", 0, 0, NULL, NULL, RANKS | BENCH,
     "GPUs: record decoding steps and replay them; the bits are the same"},
    {"threads", 't', OPTION_INT, AT(threads), "0", 0, 4096, NULL, "N", RANKS,
     "threads of each rank; 0 is its share of the CPUs it may use"},
    {"preflight", 0, OPTION_FLAG, AT(preflight), "true", 0, 0, NULL, NULL, BATCH,
     "first tell what the ranks have to work with, and check that all compute the same bits"},
    {"preflight", 0, OPTION_FLAG, AT(preflight), "false", 0, 0, NULL, NULL, RUN,
     "first tell what the ranks have to work with, and check that all compute the same bits"},
    {"json", 0, OPTION_FLAG, AT(json), "false", 0, 0, NULL, NULL,
     COMMAND_NONE | COMMAND_RUN | COMMAND_INFO | PLAN | COMMAND_STATUS |
         COMMAND_CHECK,
     "results as JSON, one object a line"},
    {"comm", 0, OPTION_CHOICE, AT(comm), "auto", 0, 0, "auto|mpi|shm", NULL,
     RANKS | BENCH,
     "ranks of a node exchange through shared memory or messages; the answers are the same"},
    {"comm-timeout", 0, OPTION_REAL, AT(comm_timeout_s), "600", 0.1, 1e6, NULL, "SECONDS",
     RANKS | BENCH,
     "longest wait for another rank"},
    {"log-level", 0, OPTION_CHOICE, AT(log_level), "info", 0, 0, "error|warn|info|debug", NULL, ALL,
     "what goes to stderr"},
    {"log-format", 0, OPTION_CHOICE, AT(log_format), "text", 0, 0, "text|json", NULL, ALL,
     "lines of stderr as text, or as JSON objects"},
    {"config", 0, OPTION_TEXT, AT(config), NULL, 0, 0, NULL, "FILE.conf", ALL,
     "read options from lines of key = value; the command line has the last word"},
    {"print-config", 0, OPTION_FLAG, AT(print_config), "false", 0, 0, NULL, NULL, ALL,
     "print the options in effect and exit"},
    {"version", 0, OPTION_FLAG, AT(version), "false", 0, 0, NULL, NULL, ANY,
     "print the version and exit"},
    {"help", 'h', OPTION_FLAG, AT(help), "false", 0, 0, NULL, NULL, ANY, "print this and exit"},
};
const size_t n_option_rows = sizeof option_rows / sizeof option_rows[0];
_Static_assert(sizeof option_rows / sizeof option_rows[0] <= OPTIONS_MAX_ROWS,
               "struct options.origin");

const struct command_row command_rows[] = {
    {COMMAND_RUN, "run", "--model DIR --prompt TEXT [options] IMAGE...",
     "Answers prompts about images, one answer for each image and prompt, on stdout. A single\n"
     "answer is printed as it is; several as lines of image<TAB>prompt<TAB>answer, in which a\n"
     "newline, tab, return or backslash is written \\n, \\t, \\r or \\\\. Exit status 1: some "
     "records failed.",
     "image"},
    {COMMAND_DUMP, "dump", "--model DIR --cases FILE.json --images DIR --out FILE.h5 [options]",
     "Writes pixels, ids, activations, logits and tokens of each case to HDF5, to be compared\n"
     "with another implementation.",
     NULL},
    {COMMAND_BENCH, "bench", "--model LIST [options]",
     "Measures how fast models run and how near that is to what this machine can do. Lists\n"
     "are separated by commas and multiply. Rounds in which the machine was not steady are\n"
     "thrown away and counted.",
     NULL},
    {COMMAND_INFO, "info", "[options] [DIR]",
     "Tells how this program was built or, given a checkpoint, its shapes, bytes and how it is\n"
     "split over ranks. Needs no MPI.",
     "model"},
    {COMMAND_BATCH, "batch", "--model DIR --input SOURCE --output-path OUT [options]",
     "Answers a whole data set, on any number of ranks. What is done is on disk; after a kill the\n"
     "same command goes on, on any number of ranks, and the results are the same. Exit status 1:\n"
     "complete, some records failed; 65: too many failed; 75: stopped early, start it again.",
     "input"},
    {COMMAND_EXPORT, "export", "[options] OUT",
     "Makes the result files of a batch from its journal again. Needs no MPI.",
     "output-path"},
    {COMMAND_SIMULATE, "simulate", "-o DIR [options]",
     "Runs the coordinator of batch against replicas that wait instead of computing, and tells\n"
     "what that costs of time and memory. Needs no MPI and no model.",
     "output-path"},
    {COMMAND_PLAN, "plan", "--model NAME [options]",
     "Predicts memory, images a second, the share of exchange between ranks, time and node-hours\n"
     "for each way to group the ranks. Needs no MPI and no weights.",
     NULL},
    {COMMAND_CONVERT, "convert", "--model DIR --weights FORM --out FILE.h5",
     "Writes a checkpoint as one file with its decoder in another form (int8, int4, bf16), which\n"
     "--model opens on any number of ranks. Needs no MPI.",
     "model"},
    {COMMAND_CHECK, "check", "--model DIR [--input SOURCE] [--output-path OUT] [options]",
     "Tells whether a batch with these options would find what it needs: weights as their SHA-256 list\n"
     "says, configuration, tokenizer, records and pictures, room for the output, time. Needs no MPI.",
     "input"},
    {COMMAND_STATUS, "status", "[options] [DIR]",
     "Tells what the ranks of this host are doing: phase, layer, last exchange, since when. With\n"
     "the output directory of a run: its ranks, and how far it is. Needs no MPI.",
     "output-path"},
    {COMMAND_NONE, NULL, NULL, NULL, NULL},
};

static bool same_key(const char *key, const char *text, size_t n_text)
{
    if (strlen(key) != n_text)
        return false;
    for (size_t i = 0; i < n_text; i++) {
        if (key[i] != (text[i] == '_' ? '-' : text[i]))
            return false;
    }
    return true;
}

const struct option_row *option_find(const char *key, size_t n_key, enum command c)
{
    const struct option_row *other = NULL;

    for (size_t i = 0; i < n_option_rows; i++) {
        if (!same_key(option_rows[i].key, key, n_key))
            continue;
        if (option_rows[i].commands & (unsigned)c)
            return &option_rows[i];
        other = &option_rows[i];
    }
    return other;
}

const struct option_row *option_find_letter(char letter, enum command c)
{
    const struct option_row *other = NULL;

    for (size_t i = 0; letter && i < n_option_rows; i++) {
        if (option_rows[i].letter != letter)
            continue;
        if (option_rows[i].commands & (unsigned)c)
            return &option_rows[i];
        other = &option_rows[i];
    }
    return other;
}

bool option_may_be_in_file(const struct option_row *row)
{
    static const char *const refused[] = {"config", "print-config", "version", "help"};

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (strcmp(row->key, refused[i]) == 0)
            return false;
    }
    return true;
}

bool option_is_compared(const struct option_row *row)
{
    return strcmp(row->key, "threads") != 0;
}

enum { KEY_MAX = 32 };

/* Levenshtein's distance; both strings are shorter than KEY_MAX. */
static size_t key_distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t row[KEY_MAX + 1];

    for (size_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[n_b];
}

const char *option_suggest(const char *key, size_t n_key, enum command c)
{
    const char *best = NULL;
    size_t best_distance = 3; /* two slips at most */

    if (n_key >= KEY_MAX)
        return NULL;
    for (size_t i = 0; i < n_option_rows; i++) {
        const char *candidate = option_rows[i].key;
        size_t distance = key_distance(key, n_key, candidate, strlen(candidate));

        if ((option_rows[i].commands & (unsigned)c) && distance < best_distance) {
            best_distance = distance;
            best = candidate;
        }
    }
    return best;
}
