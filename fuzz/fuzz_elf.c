/* The reader of ELF libraries, and the writer of copies, which follows what the reader
 * has checked. */
#include "elf/rewrite.h"
#include "fuzz.h"

static void write_a_copy(const at_elf_file *file)
{
    at_copy copy;
    at_fault fault = {.text = ""};
    if (at_copy_open(file, AT_COPY_IN_MEMORY, &copy, &fault) < 0) {
        return;
    }
    at_copy_need need = {"libc.so.6", "/a/longer/name/of/another.so", 0};
    int result = at_copy_write(&copy, file, &need, 1, &fault);
    HOLDS(result == 0 || fault.text[0] != '\0');
    at_copy_close(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *bytes = exact_copy(data, size); /* of malloc: aligned as the reader wants */
    at_elf_file *file;
    at_fault fault = {.text = ""};
    int result = at_elf_file_parse(bytes, size, "/fuzz.so", &file, &fault);
    if (result == 0) {
        HOLDS(file->strings[file->strings_size - 1] == '\0');
        HOLDS(file->page_count * file->page_bytes >= size);
        /* A segment in memory may be as large as it likes; a copy has no use for it. */
        if (file->end_address < UINT32_MAX) {
            write_a_copy(file);
        }
        at_elf_file_close(file);
    } else {
        HOLDS(strstr(fault.text, "/fuzz.so") != NULL);
    }
    free(bytes);
    return 0;
}
