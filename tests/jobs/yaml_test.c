/* YAML trees: places, everything that is refused, assignments, writing. */
#include "test.h"

#include "jobs/yaml.h"

typedef struct error_case {
    const char *text, *message;
} error_case;

static void test_places(void **state)
{
    static const char text[] = "a: 1\nb:\n  - x\n  - {c: \"2\"}\n";
    rp_owner owner = {0};
    rp_yaml *root = NULL;
    const rp_yaml *b = NULL;
    const rp_yaml *c = NULL;

    (void)state;
    assert_ok(rp_yaml_parse(&root, &owner, text, sizeof(text) - 1, "t.yaml"));
    assert_int_equal(root->kind, RP_YAML_MAP);
    b = rp_yaml_find(root, "b");
    assert_non_null(b);
    assert_int_equal(b->kind, RP_YAML_LIST);
    assert_int_equal(b->key_line, 2);
    assert_string_equal(b->first->text, "x");
    c = rp_yaml_find(b->last, "c");
    assert_non_null(c);
    assert_string_equal(c->text, "2");
    assert_true(c->is_quoted);
    assert_int_equal(c->line, 4);
    assert_int_equal(c->column, 9);
    assert_int_equal(c->key_column, 6);
    assert_null(rp_yaml_find(root, "z"));
    rp_owner_destroy(&owner);
}

static void test_refused(void **state)
{
    static const error_case cases[] = {
        {"", "t.yaml:1:1: it is empty"},
        {"# nothing\n", "it is empty"},
        {"a: 1\nb: 2\na: 3\n", "t.yaml:3:1: key \"a\" is there twice (first on line 1)"},
        {"a: &x 1\n", "t.yaml:1:4: anchors and aliases are not supported"},
        {"a: 1\nb: *x\n", "t.yaml:2:4: anchors and aliases are not supported"},
        {"a: !!int 1\n", "t.yaml:1:4: tags are not supported"},
        {"a: 1\n---\nb: 2\n", "t.yaml:2:1: a second document: want one a file"},
        {"[a, b]: 1\n", "t.yaml:1:1: a key must be plain text, not a list"},
        {"a: [1\n", "t.yaml:2:1: did not find expected"},
        {"a:\n\t- b\n", "t.yaml:2:1: found character that cannot start any token"},
        {"a: \xff\n", "t.yaml: byte"},
        {"a: \"x\\0y\"\n", "t.yaml:1:4: a NUL character in a value"},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "nested deeper than 32 levels"},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        rp_owner owner = {0};
        rp_yaml *root = NULL;
        const rp_status st =
            rp_yaml_parse(&root, &owner, cases[i].text, strlen(cases[i].text), "t.yaml");
        assert_fails(st, RP_ERR_CONFIG, cases[i].message);
        rp_owner_destroy(&owner);
    }
}

static void test_assign(void **state)
{
    static const char text[] = "a: {b: 1}\nlist: [{x: 1}]\n";
    static const error_case bad[] = {
        {"nothing", "want KEY=VALUE, got \"nothing\""},
        {"=1", "want KEY=VALUE"},
        {"a.b.c=1", "a.b.c=1: it leads below a plain value"},
        {"a..b=1", "a..b=1: a key is empty"},
        {"list.5=1", "list.5=1: the list has no entry 5"},
        {"list.x=1", "list.x=1: want the index of a list entry, got \"x\""},
        {"a.b=[1", "a.b=[1:2:1: did not find"},
    };
    rp_owner owner = {0};
    rp_yaml *root = NULL;
    char *written = NULL;

    (void)state;
    assert_ok(rp_yaml_parse(&root, &owner, text, sizeof(text) - 1, "t.yaml"));
    assert_ok(rp_yaml_assign(root, &owner, "a.b=2"));
    assert_ok(rp_yaml_assign(root, &owner, "new.deep.er=[1, two]"));
    assert_ok(rp_yaml_assign(root, &owner, "list.0.x=y"));
    assert_ok(rp_yaml_assign(root, &owner, "list.1={x: z=3}"));
    assert_ok(rp_yaml_write(&written, root));
    assert_string_equal(written, "a:\n  b: 2\nlist:\n  - x: y\n  - x: \"z=3\"\n"
                                 "new:\n  deep:\n    er: [1, two]\n");
    free(written);
    for (size_t i = 0; i < RP_COUNT(bad); i++) {
        const rp_status st = rp_yaml_assign(root, &owner, bad[i].text);
        assert_true(st == RP_ERR_CONFIG || st == RP_ERR_USAGE);
        assert_message(bad[i].message);
    }
    rp_owner_destroy(&owner);
}

/* What is written reads back to the same tree. */
static void test_write_quotes(void **state)
{
    static const char *const values[] = {"",   " x",   "a: b",  "null", "~",          "- x",
                                         "-1", "a\nb", "\"q\"", "#c",   "re:.*",      "back\\slash",
                                         "{",  "no",   "W4A16", "1.5",  "caf\xc3\xa9"};
    rp_owner owner = {0};
    rp_yaml *root = NULL;
    rp_yaml *node = NULL;
    rp_yaml *again = NULL;
    char *text = NULL;
    size_t i = 0;

    (void)state;
    assert_ok(rp_yaml_add(&root, &owner, NULL, RP_YAML_MAP, NULL, NULL));
    assert_ok(rp_yaml_add(&node, &owner, root, RP_YAML_LIST, "values", NULL));
    for (i = 0; i < RP_COUNT(values); i++) {
        rp_yaml *child = NULL;
        assert_ok(rp_yaml_add(&child, &owner, node, RP_YAML_SCALAR, NULL, values[i]));
    }
    assert_ok(rp_yaml_write(&text, root));
    assert_ok(rp_yaml_parse(&again, &owner, text, strlen(text), "again"));
    node = again->first->first;
    for (i = 0; i < RP_COUNT(values); i++, node = node->next) {
        assert_non_null(node);
        assert_string_equal(node->text, values[i]);
    }
    assert_null(node);
    free(text);
    rp_owner_destroy(&owner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_assign),
        cmocka_unit_test(test_write_quotes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
