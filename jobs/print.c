/* Small helpers of the commands. */
#include "jobs/print.h"

#include "base/mem.h"

#include <stdio.h>

rp_status rp_print_json(const json_t *value)
{
    if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0 ||
        fputc('\n', stdout) == EOF) {
        return RP_FAIL(RP_ERR_IO, "cannot write to standard output");
    }
    return RP_OK;
}

const char *rp_print_size(char *out, double nbytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    size_t unit = 0;

    while (nbytes >= 999.5 && unit + 1 < RP_COUNT(units)) {
        nbytes /= 1000;
        unit++;
    }
    (void)snprintf(out, RP_SIZE_TEXT_BYTES, unit == 0 || nbytes >= 99.95 ? "%.0f %s" : "%.1f %s",
                   nbytes, units[unit]);
    return out;
}

const char *rp_print_number(char *out, const json_t *value, int decimals)
{
    if (json_is_number(value)) {
        (void)snprintf(out, RP_SIZE_TEXT_BYTES, "%.*f", decimals, json_number_value(value));
    } else {
        (void)snprintf(out, RP_SIZE_TEXT_BYTES, "–");
    }
    return out;
}

const char *rp_json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}
