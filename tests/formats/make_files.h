/* Small files for tests: a scratch folder, raw bytes, and safetensors from JSON text as given,
 * right or wrong. */
#ifndef RP_TESTS_MAKE_FILES_H
#define RP_TESTS_MAKE_FILES_H

#include <stddef.h>
#include <stdint.h>

/* Makes an empty scratch folder and returns its name; the folder goes away when the program ends.
 * Ends the program when that is impossible. */
const char *make_scratch_dir(void);
/* "<scratch>/<name>"; valid until the 8th call after this. */
const char *scratch_path(const char *name);
/* Writes the bytes; returns the path. */
const char *make_file(const char *name, const void *data, size_t nbytes);
/* Length prefix, header text and data_bytes bytes 0, 1, 2 ...; returns the path. */
const char *make_safetensors(const char *name, const char *header, size_t data_bytes);

#endif
