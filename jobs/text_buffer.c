/* Text in memory, on open_memstream. */
#include "jobs/text_buffer.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/fault.h"

rp_status rp_text_open(rp_text *text)
{
    *text = (rp_text){0};
    text->file = RP_FAULT("alloc") ? NULL : open_memstream(&text->chars, &text->nbytes);
    return text->file != NULL ? RP_OK : RP_FAIL(RP_ERR_MEMORY, "no memory for a text");
}

void rp_text_put(rp_text *text, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vfprintf(text->file, fmt, args);
    va_end(args);
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

static const char *html_entity(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void rp_text_put_html(rp_text *text, const char *chars)
{
    for (const char *c = chars; *c != '\0'; c++) {
        const char *entity = html_entity(*c);
        if (entity != NULL) {
            rp_text_put(text, "%s", entity);
        } else {
            (void)fputc(is_control(*c) ? ' ' : *c, text->file);
        }
    }
}

void rp_text_put_code(rp_text *text, const char *chars)
{
    (void)fputc('`', text->file);
    for (const char *c = chars; *c != '\0'; c++) {
        if (*c == '|') {
            (void)fputc('\\', text->file);
        }
        (void)fputc(*c == '`' ? '\'' : is_control(*c) ? ' ' : *c, text->file);
    }
    (void)fputc('`', text->file);
}

rp_status rp_text_finish(rp_text *text, char **out)
{
    const bool has_failed = ferror(text->file) != 0;
    const bool is_closed = fclose(text->file) == 0;

    text->file = NULL;
    if (has_failed || !is_closed) {
        rp_text_discard(text);
        return RP_FAIL(RP_ERR_MEMORY, "no memory for a text");
    }
    *out = text->chars;
    text->chars = NULL;
    return RP_OK;
}

void rp_text_discard(rp_text *text)
{
    if (text->file != NULL) {
        (void)fclose(text->file);
        text->file = NULL;
    }
    free(text->chars);
    text->chars = NULL;
}
