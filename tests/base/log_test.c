/* Every line of the log is one JSON object, whatever the values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/log.h"
#include "base/mem.h"

static char path[64];

/* The log's lines as a JSON array; fails the test on a line that is not an object. */
static json_t *read_lines(void)
{
    json_t *lines = json_array();
    char line[16384];
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        json_error_t error;
        json_t *object = json_loads(line, 0, &error);
        if (object == NULL) {
            fail_msg("%s in: %s", error.text, line);
        }
        assert_true(line[strlen(line) - 1] == '\n');
        (void)json_array_append_new(lines, object);
    }
    (void)fclose(f);
    return lines;
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/rankpress-log-test-%ld", (long)getpid());
    (void)unlink(path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rp_log_close();
    return unlink(path) == 0 ? 0 : 1;
}

static void test_fields(void **state)
{
    json_t *lines = NULL;
    const json_t *line = NULL;

    (void)state;
    RP_LOG(RP_LOG_ERROR, "nobody hears this");
    assert_int_equal(rp_log_open(path, 3, RP_LOG_INFO), RP_OK);
    RP_LOG(RP_LOG_INFO, "layer_done", rp_log_i64("layer", -7), rp_log_f64("seconds", 1.25),
           rp_log_f64("nan", 0.0 / 0.0), rp_log_str("none", NULL),
           rp_log_str("text", "a \"b\" \\ \n\x01 c"));
    RP_LOG(RP_LOG_DEBUG, "left out");
    RP_LOG(RP_LOG_WARN, "bare");
    rp_log_close();
    lines = read_lines();
    assert_int_equal(json_array_size(lines), 2);
    line = json_array_get(lines, 0);
    assert_string_equal(json_string_value(json_object_get(line, "event")), "layer_done");
    assert_string_equal(json_string_value(json_object_get(line, "level")), "info");
    assert_int_equal(json_integer_value(json_object_get(line, "rank")), 3);
    assert_int_equal(json_integer_value(json_object_get(line, "layer")), -7);
    assert_true(json_real_value(json_object_get(line, "seconds")) == 1.25);
    assert_true(json_is_null(json_object_get(line, "nan")));
    assert_true(json_is_null(json_object_get(line, "none")));
    assert_string_equal(json_string_value(json_object_get(line, "text")), "a \"b\" \\ \n\x01 c");
    json_decref(lines);
}

/* Long values are cut, never the JSON around them; a second open appends. */
static void test_long_values(void **state)
{
    static const char letters[] = {'x', '"', '\n'};
    json_t *lines = NULL;
    char *text = NULL;

    (void)state;
    assert_int_equal(rp_alloc(&text, 20001), RP_OK);
    for (size_t i = 0; i < RP_COUNT(letters); i++) {
        memset(text, letters[i], 20000);
        text[20000] = '\0';
        assert_int_equal(rp_log_open(path, 0, RP_LOG_DEBUG), RP_OK);
        RP_LOG(RP_LOG_INFO, "long", rp_log_str("a", text), rp_log_str("b", text),
               rp_log_i64("c", 1));
        rp_log_close();
    }
    lines = read_lines();
    assert_int_equal(json_array_size(lines), RP_COUNT(letters));
    json_decref(lines);
    free(text);
}

static void test_open_fails(void **state)
{
    (void)state;
    assert_int_equal(rp_log_open("/nonexistent/log", 0, RP_LOG_INFO), RP_ERR_IO);
    assert_non_null(strstr(rp_error_message(), "/nonexistent/log: cannot open the log"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_values, set_up, tear_down),
        cmocka_unit_test(test_open_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
