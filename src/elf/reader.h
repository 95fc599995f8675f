/* Inside elf/: how a library is read. file.c reads the head and what leads to the
 * tables, tables.c the tables; see file.h for what they make. */
#ifndef AT_ELF_READER_H
#define AT_ELF_READER_H

#include "elf/file.h"

enum { AT_ELF_WORD_BYTES = 8 };

/* The dynamic table's entries that are looked up once; 0 where absent. */
typedef struct at_dynamic_values {
    uint64_t strings, strings_size, symbols, symbol_bytes;
    uint64_t hash, gnu_hash, versions, version_needs, version_definitions;
    uint64_t rela, rela_size, rela_bytes, plt, plt_size, plt_kind, relr, relr_size;
    uint64_t init, init_array, init_array_size, fini, fini_array, fini_array_size;
    uint64_t flags;
    bool text_relocations;
} at_dynamic_values;

typedef struct at_reader {
    at_elf_file *file;
    at_fault *fault;
    at_dynamic_values values;
} at_reader;

/* Sets the fault: which file, and what is wrong with it. Returns AT_EFORMAT. */
int at_reader_malformed(const at_reader *r, const char *what);

/* File offset of `size_bytes` at link-time `address`, which must lie in the file's part
 * of one segment and be aligned; UINT64_MAX otherwise. */
uint64_t at_reader_offset(const at_elf_file *file, uint64_t address,
                          uint64_t size_bytes, uint64_t alignment);

/* The same as a pointer into the mapped file, or NULL. */
const void *at_reader_table(const at_elf_file *file, uint64_t address,
                            uint64_t size_bytes, uint64_t alignment);

/* Does [address, address + size) lie in the memory of one segment with these flags? */
bool at_reader_in_memory(const at_elf_file *file, uint64_t address, uint64_t size_bytes,
                         uint32_t flags);

/* What a copy must do with the pages that hold these bytes of the file. */
void at_reader_mark(at_elf_file *file, uint64_t offset, uint64_t size_bytes,
                    at_elf_page page);

/* The same for a table in the mapped file; NULL is allowed. */
void at_reader_mark_table(at_elf_file *file, const void *table, uint64_t size_bytes,
                          at_elf_page page);

/* The tables, in the order in which they are read; each returns 0 or sets the fault.
 * Strings and segments have been read. */
int at_reader_relocations(at_reader *r);
int at_reader_relative_relocations(at_reader *r);
int at_reader_symbols(at_reader *r);
int at_reader_versions(at_reader *r);
int at_reader_constructors(at_reader *r);

#endif
