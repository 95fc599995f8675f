/* An ELF shared library on disk: mapped, checked, and its tables found.
 *
 * The file is user data. at_elf_file_open checks every offset, count, string and symbol
 * index that anything in elf/ follows later, so that the rest may use the tables below
 * without a check. Not checked is what only the processor sees: a library whose code is
 * damaged crashes when it runs, here as anywhere.
 *
 * Addresses in it are link-time addresses: what the loader adds its base to.
 */
#ifndef AT_ELF_FILE_H
#define AT_ELF_FILE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "sys/file.h"

/* What a private copy must do with a page of the file. Greater wins. */
typedef enum at_elf_page {
    AT_ELF_PAGE_SHARED, /* nobody reads it before it is mapped from the original */
    AT_ELF_PAGE_READ,   /* the loader reads it; mapped from the original afterwards */
    AT_ELF_PAGE_OWN,    /* differs from the original, or is writable */
} at_elf_page;

typedef struct at_elf_relocations {
    const Elf64_Rela *entries;
    size_t count;
} at_elf_relocations;

typedef struct at_elf_file {
    char *path; /* absolute, as it was found: $ORIGIN is its folder */
    at_file_identity identity;
    const unsigned char *data; /* the whole file, mapped */
    size_t size_bytes;

    const Elf64_Phdr *segments;
    size_t segment_count;
    uint64_t end_address; /* behind the last byte of the last segment in memory */

    const Elf64_Dyn *dynamic; /* without the closing DT_NULL */
    size_t dynamic_count;
    size_t dynamic_capacity; /* with the DT_NULL behind it */
    uint64_t dynamic_offset; /* in the file */

    const char
        *strings; /* ends with a NUL: every offset below strings_size is a string */
    size_t strings_size;
    uint64_t strings_address;

    const Elf64_Sym *symbols; /* names and count checked */
    size_t symbol_count;
    uint64_t symbols_offset; /* in the file */

    at_elf_relocations relocations[2]; /* DT_RELA and DT_JMPREL */

    uint64_t version_needs_offset; /* of DT_VERNEED in the file, or 0 */

    const char *soname; /* or NULL, as the next two */
    const char *rpath;
    const char *runpath;

    uint64_t init_address; /* 0 for none */
    uint64_t init_array_address;
    size_t init_array_count;
    uint64_t fini_address;
    uint64_t fini_array_address;
    size_t fini_array_count;

    bool must_copy_whole; /* code of it may run, or text be written, while it is loaded
                           */
    bool has_static_tls;  /* DF_STATIC_TLS */
    bool has_unique;      /* defines STB_GNU_UNIQUE symbols */
    bool defines_allocator;

    size_t page_bytes;
    size_t page_count;
    unsigned char *pages; /* an at_elf_page for each page of the file */
} at_elf_file;

/* Map and check the library at `path`.
 * ctx:  any, but reads the disk
 * owns: the caller ends it with at_elf_file_close
 * errs: fault names the file: AT_ENOTFOUND, AT_EPERMISSION, AT_EFORMAT,
 * AT_EUNSUPPORTED, AT_ESYSTEM, AT_ENOMEM */
int at_elf_file_open(const char *path, at_elf_file **file, at_fault *fault);

/* The same for `size_bytes` at `data`, which the caller keeps alive and unchanged,
 * aligned to 8 bytes; `path` is for faults. For tests. */
int at_elf_file_parse(const void *data, size_t size_bytes, const char *path,
                      at_elf_file **file, at_fault *fault);

/* NULL is allowed. */
void at_elf_file_close(at_elf_file *file);

/* Does the loader make the page at `page` (a link-time address, of a whole page)
 * read-only when it has relocated it? Where RELRO ends within a page, that page holds
 * writable data behind it, and the loader leaves it writable. ctx: any */
bool at_elf_file_is_relro(const at_elf_file *file, uint64_t page);

/* Is this the start of a 64-bit ELF library for this machine? What the loader asks of a
 * candidate in a search folder before it goes on to the next. */
bool at_elf_header_fits(const Elf64_Ehdr *header);

#endif
