/* Reads and checks an ELF library; see file.h, and tables.c for the tables.
 *
 * Order: header, segments, dynamic table, strings, then the tables that need strings
 * (symbols, relocations, versions), then what a copy must do with each page. Every
 * check fails through at_reader_malformed(), which names the file and what is wrong
 * with it.
 */
#include "elf/file.h"

#include <string.h>

#include "base/memory.h"
#include "elf/machine.h"
#include "elf/reader.h"
#include "sys/map.h"

/* User space ends below this on every supported machine: sums of two such numbers do
 * not overflow. */
#define ADDRESS_LIMIT (UINT64_C(1) << 52)

int at_reader_malformed(const at_reader *r, const char *what)
{
    return at_fault_set(r->fault, AT_EFORMAT, "%s is not a usable library: %s",
                        r->file->path, what);
}

/* Do `size_bytes` at `offset` lie in the file? */
static bool in_file(const at_elf_file *file, uint64_t offset, uint64_t size_bytes)
{
    return offset <= file->size_bytes && size_bytes <= file->size_bytes - offset;
}

uint64_t at_reader_offset(const at_elf_file *file, uint64_t address,
                          uint64_t size_bytes, uint64_t alignment)
{
    for (size_t i = 0; i < file->segment_count; i++) {
        const Elf64_Phdr *segment = &file->segments[i];
        if (segment->p_type != PT_LOAD || address < segment->p_vaddr ||
            address - segment->p_vaddr > segment->p_filesz ||
            size_bytes > segment->p_filesz - (address - segment->p_vaddr)) {
            continue;
        }
        uint64_t offset = address - segment->p_vaddr + segment->p_offset;
        return offset % alignment == 0 ? offset : UINT64_MAX;
    }
    return UINT64_MAX;
}

const void *at_reader_table(const at_elf_file *file, uint64_t address,
                            uint64_t size_bytes, uint64_t alignment)
{
    uint64_t offset = at_reader_offset(file, address, size_bytes, alignment);
    return offset != UINT64_MAX ? file->data + offset : NULL;
}

bool at_reader_in_memory(const at_elf_file *file, uint64_t address, uint64_t size_bytes,
                         uint32_t flags)
{
    for (size_t i = 0; i < file->segment_count; i++) {
        const Elf64_Phdr *segment = &file->segments[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & flags) == flags &&
            address >= segment->p_vaddr &&
            address - segment->p_vaddr <= segment->p_memsz &&
            size_bytes <= segment->p_memsz - (address - segment->p_vaddr)) {
            return true;
        }
    }
    return false;
}

void at_reader_mark(at_elf_file *file, uint64_t offset, uint64_t size_bytes,
                    at_elf_page page)
{
    if (size_bytes == 0 || offset >= file->size_bytes) {
        return;
    }
    uint64_t last = (offset + size_bytes - 1) / file->page_bytes;
    for (uint64_t i = offset / file->page_bytes; i <= last && i < file->page_count;
         i++) {
        if (file->pages[i] < page) {
            file->pages[i] = (unsigned char)page;
        }
    }
}

void at_reader_mark_table(at_elf_file *file, const void *table, uint64_t size_bytes,
                          at_elf_page page)
{
    if (table != NULL) {
        at_reader_mark(file, (uint64_t)((const unsigned char *)table - file->data),
                       size_bytes, page);
    }
}

/* ---- header and segments ------------------------------------------------------- */

bool at_elf_header_fits(const Elf64_Ehdr *header)
{
    return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
           header->e_ident[EI_CLASS] == ELFCLASS64 &&
           header->e_ident[EI_DATA] == ELFDATA2LSB && header->e_type == ET_DYN &&
           header->e_machine == AT_ELF_MACHINE;
}

static int read_header(at_reader *r)
{
    at_elf_file *file = r->file;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)file->data;
    if (file->size_bytes < sizeof *header ||
        memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) {
        return at_reader_malformed(r, "it is not an ELF file");
    }
    if (!at_elf_header_fits(header)) {
        return at_fault_set(r->fault, AT_EUNSUPPORTED,
                            "%s is not a shared library for this machine", file->path);
    }
    /* 0xffff stands for "the number is in a section": no library has so many. */
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 ||
        header->e_phnum >= PN_XNUM - 1 || header->e_phoff % AT_ELF_WORD_BYTES != 0 ||
        !in_file(file, header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr))) {
        return at_reader_malformed(r, "its program headers are damaged");
    }
    file->segments = (const Elf64_Phdr *)(file->data + header->e_phoff);
    file->segment_count = header->e_phnum;
    return 0;
}

static int read_load_segment(at_reader *r, const Elf64_Phdr *segment)
{
    at_elf_file *file = r->file;
    const uint64_t page = file->page_bytes;
    if (segment->p_vaddr > ADDRESS_LIMIT || segment->p_memsz > ADDRESS_LIMIT ||
        segment->p_filesz > segment->p_memsz ||
        !in_file(file, segment->p_offset, segment->p_filesz) ||
        (segment->p_vaddr - segment->p_offset) % page != 0 ||
        segment->p_vaddr < file->end_address) {
        return at_reader_malformed(
            r, "a segment lies outside the file, or segments overlap");
    }
    /* Pages cannot be exchanged one by one where segments meet in a page, or where the
     * loader zeroes the rest of a read-only one. */
    if (segment->p_vaddr / page * page < file->end_address ||
        (segment->p_filesz != segment->p_memsz && (segment->p_flags & PF_W) == 0)) {
        file->must_copy_whole = true;
    }
    file->end_address = segment->p_vaddr + segment->p_memsz;
    if ((segment->p_flags & PF_W) != 0) {
        at_reader_mark(file, segment->p_offset, segment->p_filesz, AT_ELF_PAGE_OWN);
    }
    return 0;
}

static int read_segments(at_reader *r)
{
    at_elf_file *file = r->file;
    bool has_dynamic = false;
    for (size_t i = 0; i < file->segment_count; i++) {
        const Elf64_Phdr *segment = &file->segments[i];
        int result = segment->p_type == PT_LOAD ? read_load_segment(r, segment) : 0;
        if (result < 0) {
            return result;
        }
    }
    for (size_t i = 0; i < file->segment_count; i++) {
        const Elf64_Phdr *segment = &file->segments[i];
        switch (segment->p_type) {
        case PT_DYNAMIC:
            file->dynamic = at_reader_table(file, segment->p_vaddr, segment->p_filesz,
                                            AT_ELF_WORD_BYTES);
            file->dynamic_count = segment->p_filesz / sizeof *file->dynamic;
            has_dynamic = file->dynamic != NULL;
            break;
        case PT_GNU_RELRO:
            /* Linkers round its size up to a page, beyond the segment's end. */
            if (!at_reader_in_memory(file, segment->p_vaddr, 1, PF_W) ||
                segment->p_memsz > ADDRESS_LIMIT) {
                return at_reader_malformed(
                    r, "its RELRO segment lies outside of its data");
            }
            break;
        case PT_TLS:
            if (segment->p_filesz > segment->p_memsz ||
                segment->p_memsz > ADDRESS_LIMIT ||
                (segment->p_filesz != 0 &&
                 at_reader_table(file, segment->p_vaddr, segment->p_filesz, 1) ==
                     NULL)) {
                return at_reader_malformed(r, "its thread-local segment is damaged");
            }
            at_reader_mark(file, segment->p_offset, segment->p_filesz,
                           AT_ELF_PAGE_READ);
            break;
        case PT_NOTE:
        case PT_GNU_PROPERTY:
            if (!in_file(file, segment->p_offset, segment->p_filesz)) {
                return at_reader_malformed(r, "its notes lie outside the file");
            }
            at_reader_mark(file, segment->p_offset, segment->p_filesz,
                           AT_ELF_PAGE_READ);
            break;
        default:
            break;
        }
    }
    return has_dynamic ? 0 : at_reader_malformed(r, "it has no dynamic table");
}

/* ---- dynamic table and strings ------------------------------------------------- */

static void read_dynamic_entry(at_dynamic_values *values, const Elf64_Dyn *entry)
{
    const uint64_t value = entry->d_un.d_val;
    switch (entry->d_tag) {
#define TAKE(tag, field)                                                               \
    case tag:                                                                          \
        values->field = value;                                                         \
        break
        TAKE(DT_STRTAB, strings);
        TAKE(DT_STRSZ, strings_size);
        TAKE(DT_SYMTAB, symbols);
        TAKE(DT_SYMENT, symbol_bytes);
        TAKE(DT_HASH, hash);
        TAKE(DT_GNU_HASH, gnu_hash);
        TAKE(DT_VERSYM, versions);
        TAKE(DT_VERNEED, version_needs);
        TAKE(DT_VERDEF, version_definitions);
        TAKE(DT_RELA, rela);
        TAKE(DT_RELASZ, rela_size);
        TAKE(DT_RELAENT, rela_bytes);
        TAKE(DT_JMPREL, plt);
        TAKE(DT_PLTRELSZ, plt_size);
        TAKE(DT_PLTREL, plt_kind);
        TAKE(DT_RELR, relr);
        TAKE(DT_RELRSZ, relr_size);
        TAKE(DT_INIT, init);
        TAKE(DT_INIT_ARRAY, init_array);
        TAKE(DT_INIT_ARRAYSZ, init_array_size);
        TAKE(DT_FINI, fini);
        TAKE(DT_FINI_ARRAY, fini_array);
        TAKE(DT_FINI_ARRAYSZ, fini_array_size);
        TAKE(DT_FLAGS, flags);
#undef TAKE
    case DT_TEXTREL:
        values->text_relocations = true;
        break;
    default:
        break;
    }
}

static int read_dynamic(at_reader *r)
{
    at_elf_file *file = r->file;
    size_t count = 0;
    while (count < file->dynamic_count && file->dynamic[count].d_tag != DT_NULL) {
        read_dynamic_entry(&r->values, &file->dynamic[count]);
        count++;
    }
    if (count == file->dynamic_count) {
        return at_reader_malformed(r, "its dynamic table has no end");
    }
    file->dynamic_capacity = file->dynamic_count;
    file->dynamic_count = count;
    file->dynamic_offset =
        (uint64_t)((const unsigned char *)file->dynamic - file->data);
    at_reader_mark(file, file->dynamic_offset,
                   file->dynamic_capacity * sizeof *file->dynamic, AT_ELF_PAGE_OWN);
    file->has_static_tls = (r->values.flags & DF_STATIC_TLS) != 0;
    r->values.text_relocations |= (r->values.flags & DF_TEXTREL) != 0;
    file->must_copy_whole |= r->values.text_relocations;
    return 0;
}

static int read_strings(at_reader *r)
{
    at_elf_file *file = r->file;
    const at_dynamic_values *values = &r->values;
    file->strings = at_reader_table(file, values->strings, values->strings_size, 1);
    file->strings_size = values->strings_size;
    file->strings_address = values->strings;
    if (file->strings == NULL || file->strings_size == 0 ||
        file->strings[file->strings_size - 1] != '\0') {
        return at_reader_malformed(r, "its string table is damaged");
    }
    at_reader_mark_table(file, file->strings, file->strings_size, AT_ELF_PAGE_READ);
    for (size_t i = 0; i < file->dynamic_count; i++) {
        const Elf64_Dyn *entry = &file->dynamic[i];
        const char **text = NULL;
        switch (entry->d_tag) {
        case DT_SONAME:
            text = &file->soname;
            break;
        case DT_RPATH:
            text = &file->rpath;
            break;
        case DT_RUNPATH:
            text = &file->runpath;
            break;
        case DT_NEEDED:
        case DT_AUXILIARY:
        case DT_FILTER:
            break;
        default:
            continue;
        }
        if (entry->d_un.d_val >= file->strings_size) {
            return at_reader_malformed(r, "a name lies outside of its string table");
        }
        if (text != NULL) {
            *text = file->strings + entry->d_un.d_val;
        }
    }
    return 0;
}

/* ---- the whole ----------------------------------------------------------------- */

static int read_file(at_reader *r)
{
    static int (*const steps[])(at_reader *) = {
        read_header,       read_segments,         read_dynamic,
        read_strings,      at_reader_relocations, at_reader_relative_relocations,
        at_reader_symbols, at_reader_versions,    at_reader_constructors,
    };
    at_elf_file *file = r->file;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        int result = steps[i](r);
        if (result < 0) {
            return result;
        }
    }
    at_reader_mark(file, 0, sizeof(Elf64_Ehdr), AT_ELF_PAGE_OWN);
    at_reader_mark_table(file, file->segments,
                         file->segment_count * sizeof *file->segments,
                         AT_ELF_PAGE_READ);
    return 0;
}

int at_elf_file_parse(const void *data, size_t size_bytes, const char *path,
                      at_elf_file **parsed, at_fault *fault)
{
    at_elf_file *file = at_calloc(1, sizeof *file);
    if (file == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "%s: out of memory", path);
    }
    file->data = data;
    file->size_bytes = size_bytes;
    file->page_bytes = at_page_bytes();
    file->page_count = (size_bytes + file->page_bytes - 1) / file->page_bytes;
    file->pages = at_calloc(file->page_count, 1);
    int result = at_file_absolute(path, &file->path);
    if (file->pages == NULL || result < 0) {
        result = at_fault_set(fault, AT_ENOMEM, "%s: out of memory", path);
    } else {
        at_reader r = {.file = file, .fault = fault};
        result = read_file(&r);
    }
    if (result < 0) {
        at_free(file->pages);
        at_free(file->path);
        at_free(file);
        return result;
    }
    *parsed = file;
    return 0;
}

int at_elf_file_open(const char *path, at_elf_file **opened, at_fault *fault)
{
    at_file_identity identity;
    int descriptor = at_file_open(path, &identity, fault);
    if (descriptor < 0) {
        return descriptor;
    }
    const void *data = NULL;
    int result = identity.size_bytes == 0
                     ? at_fault_set(fault, AT_EFORMAT, "%s is empty", path)
                     : at_map_open(descriptor, identity.size_bytes, &data, fault);
    at_file_close(descriptor);
    if (result == 0) {
        result = at_elf_file_parse(data, identity.size_bytes, path, opened, fault);
        if (result < 0) {
            at_map_close(data, identity.size_bytes);
        } else {
            (*opened)->identity =
                identity; /* says too that the data is ours to unmap */
        }
    }
    return result;
}

void at_elf_file_close(at_elf_file *file)
{
    if (file == NULL) {
        return;
    }
    if (file->identity.size_bytes != 0) {
        at_map_close(file->data, file->identity.size_bytes);
    }
    at_free(file->pages);
    at_free(file->path);
    at_free(file);
}

bool at_elf_file_is_relro(const at_elf_file *file, uint64_t page)
{
    for (size_t i = 0; i < file->segment_count; i++) {
        const Elf64_Phdr *segment = &file->segments[i];
        if (segment->p_type == PT_GNU_RELRO &&
            page + file->page_bytes > segment->p_vaddr &&
            page + file->page_bytes <= segment->p_vaddr + segment->p_memsz) {
            return true;
        }
    }
    return false;
}
