/* Option rows: values to fields and back, bounds, suggestions, the command line's grammar. */
#include "test.h"

#include "jobs/options.h"

typedef struct fields {
    bool is_on;
    int64_t count, size, colour;
    double rate, seconds;
    char *name;
    rp_string_list list;
} fields;

static const rp_option_word colours[] = {{"red", 1}, {"green", 2}, {NULL, 0}};
static const rp_option_word autos[] = {{"auto", 0}, {NULL, 0}};
#define AT(member) .offset = offsetof(fields, member)
static const rp_option rows[] = {
    {.name = "is_on", .type = RP_OPTION_FLAG, AT(is_on), .help = "a flag"},
    {.name = "max_count",
     .type = RP_OPTION_INT,
     AT(count),
     .fallback = "auto",
     .min = 1,
     .max = 8,
     .words = autos,
     .help = "a count"},
    {.name = "size",
     .type = RP_OPTION_BYTES,
     AT(size),
     .fallback = "5GB",
     .min = 4e3,
     .max = 1099511627776.0,
     .help = "bytes"},
    {.name = "colour", .type = RP_OPTION_WORD, AT(colour), .fallback = "red", .words = colours},
    {.name = "rate", .type = RP_OPTION_REAL, AT(rate), .fallback = "0.5", .min = 0, .max = 1},
    {.name = "seconds", .type = RP_OPTION_SECONDS, AT(seconds), .fallback = "90"},
    {.name = "name", .type = RP_OPTION_STRING, AT(name), .arg = "NAME"},
    {.name = "list", .type = RP_OPTION_STRINGS, AT(list), .words = colours},
    {.name = NULL},
};

static void test_bytes(void **state)
{
    int64_t n = 0;

    (void)state;
    assert_true(rp_parse_bytes(&n, "5GB"));
    assert_int_equal(n, 5000000000);
    assert_true(rp_parse_bytes(&n, "3.9GiB"));
    assert_int_equal(n, 4187593114);
    assert_true(rp_parse_bytes(&n, "12 kB"));
    assert_int_equal(n, 12000);
    assert_true(rp_parse_bytes(&n, "1048576"));
    assert_int_equal(n, 1048576);
    assert_false(rp_parse_bytes(&n, "5 gigs"));
    assert_false(rp_parse_bytes(&n, "-5GB"));
    assert_false(rp_parse_bytes(&n, "GB"));
    assert_false(rp_parse_bytes(&n, ""));
    assert_false(rp_parse_bytes(&n, "9e30TB"));
}

static void test_seconds(void **state)
{
    static const struct {
        const char *text;
        double seconds; /* -1: refused */
    } cases[] = {
        {"90", 90},    {"45m", 2700},   {"1h30m", 5400}, {"01:30:00", 5400}, {"2-12:00:00", 216000},
        {"1d", 86400}, {"00:45", 2700}, {"0.5h", 1800},  {"30m1h", -1},      {"", -1},
        {"1x", -1},    {"1:60:00", -1}, {"-5", -1},      {"1:2:3:4", -1},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        double seconds = -1;
        const bool is_good = rp_parse_seconds(&seconds, cases[i].text);
        assert_int_equal(is_good, cases[i].seconds >= 0);
        if (is_good) {
            assert_true(seconds == cases[i].seconds);
        }
    }
}

static void test_defaults_and_round_trip(void **state)
{
    static const char *const names[] = {"is_on", "max_count", "size", "colour", "rate", "seconds"};
    static const char *const values[] = {"true", "7", "3GiB", "green", "0.1", "12.5"};
    rp_owner owner = {0};
    fields f = {0};
    char *text = NULL;

    (void)state;
    assert_ok(rp_options_set_defaults(rows, &f, &owner));
    assert_int_equal(f.count, 0);
    assert_true(f.size == 5000000000);
    assert_int_equal(f.colour, 1);
    assert_true(f.rate == 0.5 && f.seconds == 90);
    assert_null(f.name);
    assert_ok(rp_option_format(&text, rp_options_find(rows, "max_count"), &f));
    assert_string_equal(text, "auto");
    free(text);
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        const rp_option *row = rp_options_find(rows, names[i]);
        assert_ok(rp_option_set(row, &f, &owner, values[i]));
        assert_ok(rp_option_format(&text, row, &f));
        assert_string_equal(text, values[i]);
        free(text);
    }
    rp_owner_destroy(&owner);
}

static void test_refused(void **state)
{
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"max_count", "9", "want an integer from 1 to 8 or auto, got \"9\""},
        {"max_count", "0", "from 1 to 8"},
        {"max_count", "3.5", "want an integer"},
        {"max_count", "99999999999999999999", "want an integer"},
        {"max_count", "atuo", "(did you mean \"auto\"?)"},
        {"colour", "gren", "want red or green, got \"gren\" (did you mean \"green\"?)"},
        {"rate", "nan", "want a number from 0 to 1"},
        {"rate", "1.5", "want a number from 0 to 1"},
        {"is_on", "yes", "want true or false, got \"yes\""},
        {"size", "big", "want a size from 4kB to 1TiB, got \"big\""},
        {"size", "1kB", "want a size from 4kB to 1TiB, got \"1kB\""},
        {"seconds", "soon", "want a time such as 90s or 1h30m, got \"soon\""},
        {"name", "", "want text, got an empty one"},
    };
    rp_owner owner = {0};
    fields f = {0};

    (void)state;
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        const rp_option *row = rp_options_find(rows, cases[i].name);
        assert_fails(rp_option_set(row, &f, &owner, cases[i].text), RP_ERR_USAGE, cases[i].message);
    }
    assert_fails(rp_option_append(rp_options_find(rows, "list"), &f, &owner, "blue"), RP_ERR_USAGE,
                 "want a list of red or green, got \"blue\"");
    rp_owner_destroy(&owner);
}

static void test_suggestions(void **state)
{
    (void)state;
    assert_string_equal(rp_options_suggest(rows, "maxcount"), "max_count");
    assert_string_equal(rp_options_suggest(rows, "color"), "colour");
    assert_string_equal(rp_options_suggest(rows, "raet"), "rate");
    assert_null(rp_options_suggest(rows, "zzz"));
}

static void test_command_line(void **state)
{
    char *argv[] = {(char *)"prog", (char *)"job.yaml",   (char *)"--max-count",
                    (char *)"3",    (char *)"--name=a=b", (char *)"--is-on",
                    (char *)"k=v",  (char *)"--",         (char *)"--not-option"};
    const int argc = (int)RP_COUNT(argv);
    const char *operands[RP_COUNT(argv)];
    int n = 0;
    rp_owner owner = {0};
    fields f = {0};

    (void)state;
    assert_ok(rp_options_parse_args(rows, &f, &owner, argc, argv, 1, operands, &n));
    assert_int_equal(f.count, 3);
    assert_string_equal(f.name, "a=b");
    assert_true(f.is_on);
    assert_int_equal(n, 3);
    assert_string_equal(operands[0], "job.yaml");
    assert_string_equal(operands[1], "k=v");
    assert_string_equal(operands[2], "--not-option");
    rp_owner_destroy(&owner);
}

static void test_command_line_refused(void **state)
{
    static const struct {
        const char *args[2];
        const char *message;
    } cases[] = {
        {{"--max-cuont", "1"}, "unknown option --max-cuont (did you mean --max-count?)"},
        {{"--zzz", NULL}, "unknown option --zzz"},
        {{"-x", NULL}, "unknown option -x"},
        {{"--name", NULL}, "option --name needs a value: NAME"},
        {{"--is-on=true", NULL}, "option --is-on takes no value"},
        {{"--max-count", "many"}, "option --max-count: want an integer from 1 to 8 or auto"},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        char *argv[] = {(char *)cases[i].args[0], (char *)cases[i].args[1]};
        const char *operands[2];
        const int argc = argv[1] == NULL ? 1 : 2;
        int n = 0;
        rp_owner owner = {0};
        fields f = {0};
        assert_fails(rp_options_parse_args(rows, &f, &owner, argc, argv, 0, operands, &n),
                     RP_ERR_USAGE, cases[i].message);
        rp_owner_destroy(&owner);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_seconds),
        cmocka_unit_test(test_defaults_and_round_trip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_suggestions),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_command_line_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
