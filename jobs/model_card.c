/* A card is made of report.json's tree alone. The front matter follows the hub's metadata for model
 * cards (https://huggingface.co/docs/hub/model-cards); its texts are JSON strings, which YAML reads
 * as they are. No licence is stated: it is the base model's, which rankpress does not know. */
#include "jobs/model_card.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/json.h"
#include "jobs/print.h"
#include "jobs/text_buffer.h"

typedef struct card {
    rp_text t;
    const json_t *report;
    const json_t *outputs; /* those that the card is about */
    bool is_of_all;
} card;

/* What the hub and a reader need to know of a format. */
typedef struct format_facts {
    const char *format; /* in report.json */
    const char *library;
    const char *load;
} format_facts;

static const format_facts all_formats[] = {
    {"gguf", "gguf", "llama-cli -m FILE"},
    {"gptq", "transformers", "AutoModelForCausalLM.from_pretrained(FOLDER)"},
    {"compressed-tensors", "transformers", "AutoModelForCausalLM.from_pretrained(FOLDER)"},
    {"safetensors", "transformers", "AutoModelForCausalLM.from_pretrained(FOLDER)"},
};

static const format_facts *facts_of(const json_t *output)
{
    const char *format = rp_json_text(output, "format");

    for (size_t i = 0; i < RP_COUNT(all_formats); i++) {
        if (strcmp(all_formats[i].format, format) == 0) {
            return &all_formats[i];
        }
    }
    return &all_formats[0];
}

/* A YAML string; the texts come from JSON and are UTF-8. */
static void put_quoted(rp_text *t, const char *chars)
{
    json_t *value = json_string(chars);
    char *quoted = value != NULL ? json_dumps(value, JSON_ENCODE_ANY) : NULL;

    rp_text_put(t, "%s", quoted != NULL ? quoted : "\"\"");
    free(quoted);
    json_decref(value);
}

static void put_front_matter(card *c)
{
    const json_t *output = NULL;
    size_t i = 0;
    const char *library = facts_of(json_array_get(c->outputs, 0))->library;
    const char *seen[RP_COUNT(all_formats)] = {NULL};

    rp_text_put(&c->t, "---\nbase_model: ");
    put_quoted(&c->t, rp_json_text(c->report, "model_name"));
    rp_text_put(&c->t, "\nbase_model_relation: quantized\nlibrary_name: %s\n", library);
    rp_text_put(&c->t, "pipeline_tag: text-generation\ntags:\n  - rankpress\n");
    json_array_foreach(c->outputs, i, output)
    {
        const format_facts *facts = facts_of(output);
        const size_t at = (size_t)(facts - all_formats);
        if (seen[at] == NULL) {
            rp_text_put(&c->t, "  - %s\n", facts->format);
        }
        seen[at] = facts->format;
    }
    rp_text_put(&c->t, "---\n\n");
}

static void put_title(card *c)
{
    const json_t *first = json_array_get(c->outputs, 0);

    rp_text_put(&c->t, "# ");
    rp_text_put_code(&c->t, rp_json_text(c->report, "model_name"));
    rp_text_put(&c->t, ", compressed\n\nA copy of ");
    rp_text_put_code(&c->t, rp_json_text(c->report, "model_name"));
    rp_text_put(&c->t, " with smaller weights, made by %s", rp_json_text(c->report, "program"));
    if (c->is_of_all) {
        rp_text_put(&c->t, ", in %zu form%s. ", json_array_size(c->outputs),
                    json_array_size(c->outputs) == 1 ? "" : "s");
    } else {
        rp_text_put(&c->t, ", in the format %s. ", rp_json_text(first, "format"));
    }
    rp_text_put(&c->t, "The base model's licence and limits hold for it too.\n");
}

static void put_weights(card *c)
{
    const json_t *output = NULL;
    const char *kind = NULL;
    json_t *count = NULL;
    size_t i = 0;

    rp_text_put(&c->t, "\n## Weights\n\n| output | linear layers | stored as |\n"
                       "| --- | ---: | --- |\n");
    json_array_foreach(c->outputs, i, output)
    {
        json_object_foreach(json_object_get(output, "linears"), kind, count)
        {
            rp_text_put(&c->t, "| ");
            rp_text_put_code(&c->t, rp_json_text(output, "name"));
            rp_text_put(&c->t, " | %" JSON_INTEGER_FORMAT " | %s |\n", json_integer_value(count),
                        kind);
        }
    }
}

/* The tensors that a failed solver left rounded to nearest: nobody should have to look for them. */
static void put_fallbacks(card *c)
{
    const json_t *layer = NULL;
    const json_t *fact = NULL;
    size_t l = 0;
    size_t i = 0;

    if (json_integer_value(json_object_get(c->report, "fallbacks")) == 0) {
        return;
    }
    rp_text_put(&c->t, "\nFALLBACK: the solver failed and these were rounded to nearest:\n\n");
    json_array_foreach(json_object_get(c->report, "layers"), l, layer)
    {
        json_array_foreach(layer, i, fact)
        {
            if (json_is_true(json_object_get(fact, "fallback"))) {
                rp_text_put(&c->t, "- ");
                rp_text_put_code(&c->t, rp_json_text(fact, "tensor"));
                rp_text_put(&c->t, " (%s)\n", rp_json_text(fact, "grid"));
            }
        }
    }
}

static void put_row(card *c, const char *name, const json_t *output)
{
    const json_t *evaluation = json_object_get(output, "evaluation");
    char bits[RP_SIZE_TEXT_BYTES];
    char perplexity[RP_SIZE_TEXT_BYTES];
    char kl[RP_SIZE_TEXT_BYTES];
    char top1[RP_SIZE_TEXT_BYTES];
    char size[RP_SIZE_TEXT_BYTES];

    rp_text_put(&c->t, "| ");
    rp_text_put_code(&c->t, name);
    rp_text_put(&c->t, " | %s | %s | %s | %s | %s |\n",
                rp_print_size(size, json_number_value(json_object_get(output, "bytes"))),
                rp_print_number(bits, json_object_get(output, "bits_per_weight"), 3),
                rp_print_number(perplexity, json_object_get(evaluation, "perplexity"), 4),
                rp_print_number(kl, json_object_get(evaluation, "kl_divergence"), 6),
                rp_print_number(top1, json_object_get(evaluation, "top1_agreement"), 4));
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

static void put_measured(card *c)
{
    const json_t *source = json_object_get(c->report, "source");
    const json_t *evaluation = json_object_get(source, "evaluation");
    const json_t *output = NULL;
    size_t i = 0;

    rp_text_put(&c->t,
                "\n## Measured\n\n| | size | bits/weight | perplexity | KL divergence | top-1 "
                "agreement |\n| --- | ---: | ---: | ---: | ---: | ---: |\n");
    put_row(c, "before", source);
    json_array_foreach(c->outputs, i, output)
    {
        put_row(c, rp_json_text(output, "name"), output);
    }
    if (evaluation == NULL) {
        rp_text_put(&c->t, "\nThe job asked for no evaluation of the written files.\n");
        return;
    }
    rp_text_put(&c->t, "\nOn the written files, with ");
    rp_text_put_code(&c->t, file_name(rp_json_text(c->report, "evaluation_text")));
    rp_text_put(&c->t,
                ": %" JSON_INTEGER_FORMAT " windows, %" JSON_INTEGER_FORMAT
                " tokens scored. KL divergence to the base model in nats a token, top-1 agreement "
                "as a share of tokens.\n",
                json_integer_value(json_object_get(evaluation, "windows")),
                json_integer_value(json_object_get(evaluation, "tokens")));
}

static void put_load(card *c)
{
    const json_t *output = NULL;
    size_t i = 0;

    rp_text_put(&c->t, "\n## Load\n\n");
    json_array_foreach(c->outputs, i, output)
    {
        rp_text_put(&c->t, "- ");
        rp_text_put_code(&c->t, rp_json_text(output, "name"));
        rp_text_put(&c->t, ": `%s`\n", facts_of(output)->load);
    }
}

/* Indented, not fenced: no line of a job can end the block. */
static void put_job(card *c, const char *lines)
{
    const char *calibration = rp_json_text(c->report, "calibration_text");

    rp_text_put(&c->t, "\n## Made by\n\n    rankpress run job.yaml\n\nArithmetic: %s. ",
                rp_json_text(c->report, "arithmetic"));
    if (*calibration != '\0') {
        rp_text_put(&c->t, "Calibrated on ");
        rp_text_put_code(&c->t, file_name(calibration));
        rp_text_put(&c->t, ". ");
    }
    rp_text_put(&c->t, "The keys of the job that decide the bytes:\n\n");
    while (*lines != '\0') {
        const int length = (int)strcspn(lines, "\n");
        rp_text_put(&c->t, "    %.*s\n", length, lines);
        lines += length + (lines[length] == '\n');
    }
}

rp_status rp_model_card(char **text, const json_t *report, size_t output, const char *job_lines)
{
    rp_status st = RP_OK;
    json_t *outputs = json_object_get(report, "outputs");
    json_t *one = NULL;
    card c = {.report = report, .outputs = outputs, .is_of_all = output == RP_CARD_OF_ALL};

    if (!c.is_of_all) {
        one = json_pack("[O]", json_array_get(outputs, output));
        RP_TRY(rp_json_made(one));
        c.outputs = one;
    }
    RP_TRY(rp_text_open(&c.t));
    put_front_matter(&c);
    put_title(&c);
    put_weights(&c);
    put_fallbacks(&c);
    put_measured(&c);
    put_load(&c);
    put_job(&c, job_lines);
    RP_TRY(rp_text_finish(&c.t, text));
out:
    rp_text_discard(&c.t);
    json_decref(one);
    return st;
}
