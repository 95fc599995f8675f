/* Reads and checks an ELF library; see file.h.
 *
 * Order: header, segments, dynamic table, strings, then the tables that need strings
 * (symbols, relocations, versions), then what a copy must do with each page. Every
 * check fails through malformed(), which names the file and what is wrong with it.
 */
#include "elf/file.h"

#include <string.h>

#include "base/memory.h"
#include "elf/machine.h"
#include "sys/map.h"

/* User space ends below this on every supported machine: sums of two such numbers do
 * not overflow. */
#define ADDRESS_LIMIT (UINT64_C(1) << 52)

enum { WORD_BYTES = 8, RELR_BITS = 63 };

/* The dynamic table's entries that are looked up once; 0 where absent. */
typedef struct dynamic_values {
    uint64_t strings, strings_size, symbols, symbol_bytes;
    uint64_t hash, gnu_hash, versions, version_needs, version_definitions;
    uint64_t rela, rela_size, rela_bytes, plt, plt_size, plt_kind, relr, relr_size;
    uint64_t init, init_array, init_array_size, fini, fini_array, fini_array_size;
    uint64_t flags;
    bool text_relocations;
} dynamic_values;

typedef struct reader {
    at_elf_file *file;
    at_fault *fault;
    dynamic_values values;
} reader;

static int malformed(const reader *r, const char *what)
{
    return at_fault_set(r->fault, AT_EFORMAT, "%s is not a usable library: %s",
                        r->file->path, what);
}

static bool in_file(const at_elf_file *file, uint64_t offset, uint64_t size_bytes)
{
    return offset <= file->size_bytes && size_bytes <= file->size_bytes - offset;
}

/* File offset of `size_bytes` at link-time `address`, which must lie in the file's part
 * of one segment and be aligned; UINT64_MAX otherwise. */
static uint64_t offset_of(const at_elf_file *file, uint64_t address,
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

static const void *table_at(const at_elf_file *file, uint64_t address,
                            uint64_t size_bytes, uint64_t alignment)
{
    uint64_t offset = offset_of(file, address, size_bytes, alignment);
    return offset != UINT64_MAX ? file->data + offset : NULL;
}

/* Does [address, address + size) lie in the memory of one segment with these flags? */
static bool in_memory(const at_elf_file *file, uint64_t address, uint64_t size_bytes,
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

static void mark(at_elf_file *file, uint64_t offset, uint64_t size_bytes,
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

static void mark_table(at_elf_file *file, const void *table, uint64_t size_bytes,
                       at_elf_page page)
{
    if (table != NULL) {
        mark(file, (uint64_t)((const unsigned char *)table - file->data), size_bytes,
             page);
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

static int read_header(reader *r)
{
    at_elf_file *file = r->file;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)file->data;
    if (file->size_bytes < sizeof *header ||
        memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) {
        return malformed(r, "it is not an ELF file");
    }
    if (!at_elf_header_fits(header)) {
        return at_fault_set(r->fault, AT_EUNSUPPORTED,
                            "%s is not a shared library for this machine", file->path);
    }
    /* 0xffff stands for "the number is in a section": no library has so many. */
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 ||
        header->e_phnum >= PN_XNUM - 1 || header->e_phoff % WORD_BYTES != 0 ||
        !in_file(file, header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr))) {
        return malformed(r, "its program headers are damaged");
    }
    file->segments = (const Elf64_Phdr *)(file->data + header->e_phoff);
    file->segment_count = header->e_phnum;
    return 0;
}

static int read_load_segment(reader *r, const Elf64_Phdr *segment)
{
    at_elf_file *file = r->file;
    const uint64_t page = file->page_bytes;
    if (segment->p_vaddr > ADDRESS_LIMIT || segment->p_memsz > ADDRESS_LIMIT ||
        segment->p_filesz > segment->p_memsz ||
        !in_file(file, segment->p_offset, segment->p_filesz) ||
        (segment->p_vaddr - segment->p_offset) % page != 0 ||
        segment->p_vaddr < file->end_address) {
        return malformed(r, "a segment lies outside the file, or segments overlap");
    }
    /* Pages cannot be exchanged one by one where segments meet in a page, or where the
     * loader zeroes the rest of a read-only one. */
    if (segment->p_vaddr / page * page < file->end_address ||
        (segment->p_filesz != segment->p_memsz && (segment->p_flags & PF_W) == 0)) {
        file->must_copy_whole = true;
    }
    file->end_address = segment->p_vaddr + segment->p_memsz;
    if ((segment->p_flags & PF_W) != 0) {
        mark(file, segment->p_offset, segment->p_filesz, AT_ELF_PAGE_OWN);
    }
    return 0;
}

static int read_segments(reader *r)
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
            file->dynamic =
                table_at(file, segment->p_vaddr, segment->p_filesz, WORD_BYTES);
            file->dynamic_count = segment->p_filesz / sizeof *file->dynamic;
            has_dynamic = file->dynamic != NULL;
            break;
        case PT_GNU_RELRO:
            /* Linkers round its size up to a page, beyond the segment's end. */
            if (!in_memory(file, segment->p_vaddr, 1, PF_W) ||
                segment->p_memsz > ADDRESS_LIMIT) {
                return malformed(r, "its RELRO segment lies outside of its data");
            }
            break;
        case PT_TLS:
            if (segment->p_filesz > segment->p_memsz ||
                segment->p_memsz > ADDRESS_LIMIT ||
                (segment->p_filesz != 0 &&
                 table_at(file, segment->p_vaddr, segment->p_filesz, 1) == NULL)) {
                return malformed(r, "its thread-local segment is damaged");
            }
            mark(file, segment->p_offset, segment->p_filesz, AT_ELF_PAGE_READ);
            break;
        case PT_NOTE:
        case PT_GNU_PROPERTY:
            if (!in_file(file, segment->p_offset, segment->p_filesz)) {
                return malformed(r, "its notes lie outside the file");
            }
            mark(file, segment->p_offset, segment->p_filesz, AT_ELF_PAGE_READ);
            break;
        default:
            break;
        }
    }
    return has_dynamic ? 0 : malformed(r, "it has no dynamic table");
}

/* ---- dynamic table and strings ------------------------------------------------- */

static void read_dynamic_entry(dynamic_values *values, const Elf64_Dyn *entry)
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

static int read_dynamic(reader *r)
{
    at_elf_file *file = r->file;
    size_t count = 0;
    while (count < file->dynamic_count && file->dynamic[count].d_tag != DT_NULL) {
        read_dynamic_entry(&r->values, &file->dynamic[count]);
        count++;
    }
    if (count == file->dynamic_count) {
        return malformed(r, "its dynamic table has no end");
    }
    file->dynamic_capacity = file->dynamic_count;
    file->dynamic_count = count;
    file->dynamic_offset =
        (uint64_t)((const unsigned char *)file->dynamic - file->data);
    mark(file, file->dynamic_offset, file->dynamic_capacity * sizeof *file->dynamic,
         AT_ELF_PAGE_OWN);
    file->has_static_tls = (r->values.flags & DF_STATIC_TLS) != 0;
    r->values.text_relocations |= (r->values.flags & DF_TEXTREL) != 0;
    file->must_copy_whole |= r->values.text_relocations;
    return 0;
}

static int read_strings(reader *r)
{
    at_elf_file *file = r->file;
    const dynamic_values *values = &r->values;
    file->strings = table_at(file, values->strings, values->strings_size, 1);
    file->strings_size = values->strings_size;
    file->strings_address = values->strings;
    if (file->strings == NULL || file->strings_size == 0 ||
        file->strings[file->strings_size - 1] != '\0') {
        return malformed(r, "its string table is damaged");
    }
    mark_table(file, file->strings, file->strings_size, AT_ELF_PAGE_READ);
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
            return malformed(r, "a name lies outside of its string table");
        }
        if (text != NULL) {
            *text = file->strings + entry->d_un.d_val;
        }
    }
    return 0;
}

/* ---- symbols ------------------------------------------------------------------- */

static int count_by_hash(reader *r, size_t *count)
{
    at_elf_file *file = r->file;
    const uint64_t address = r->values.hash;
    const uint32_t *head = table_at(file, address, 2 * sizeof *head, sizeof *head);
    if (head == NULL) {
        return malformed(r, "its hash table is damaged");
    }
    uint64_t words = 2 + (uint64_t)head[0] + head[1];
    if (table_at(file, address, words * sizeof *head, sizeof *head) == NULL) {
        return malformed(r, "its hash table is damaged");
    }
    mark_table(file, head, words * sizeof *head, AT_ELF_PAGE_READ);
    for (uint64_t i = 2; i < words; i++) {
        if (head[i] >= head[1]) {
            return malformed(r, "its hash table names a symbol that is not there");
        }
    }
    *count = head[1];
    return 0;
}

/* The GNU table does not say how many symbols there are: the last chain's end does. */
static int count_by_gnu_hash(reader *r, size_t *count)
{
    at_elf_file *file = r->file;
    const uint64_t address = r->values.gnu_hash;
    const uint32_t *head = table_at(file, address, 4 * sizeof *head, WORD_BYTES);
    if (head == NULL || head[0] == 0 || head[2] == 0 ||
        (head[2] & (head[2] - 1)) != 0) {
        return malformed(r, "its GNU hash table is damaged");
    }
    const uint64_t bucket_count = head[0], first = head[1];
    const uint64_t fixed_bytes = 16 + (uint64_t)head[2] * WORD_BYTES + bucket_count * 4;
    if (table_at(file, address, fixed_bytes, WORD_BYTES) == NULL) {
        return malformed(r, "its GNU hash table is damaged");
    }
    const uint32_t *buckets = head + 4 + (size_t)head[2] * 2;
    uint64_t last = 0;
    for (uint64_t i = 0; i < bucket_count; i++) {
        if (buckets[i] != 0 && buckets[i] < first) {
            return malformed(r, "its GNU hash table is damaged");
        }
        last = buckets[i] > last ? buckets[i] : last;
    }
    uint64_t chain_bytes = 0;
    if (last != 0) {
        const uint32_t *link;
        do {
            chain_bytes = (last - first + 1) * 4;
            link = table_at(file, address + fixed_bytes + chain_bytes - 4, 4, 4);
            last++;
        } while (link != NULL && (*link & 1) == 0);
        if (link == NULL ||
            table_at(file, address, fixed_bytes + chain_bytes, WORD_BYTES) == NULL) {
            return malformed(r, "its GNU hash table is damaged");
        }
    }
    mark_table(file, head, fixed_bytes + chain_bytes, AT_ELF_PAGE_READ);
    *count = last != 0 ? last : first;
    return 0;
}

static size_t highest_symbol(const at_elf_file *file)
{
    size_t highest = 0;
    for (int t = 0; t < 2; t++) {
        const at_elf_relocations *table = &file->relocations[t];
        for (size_t i = 0; i < table->count; i++) {
            size_t symbol = ELF64_R_SYM(table->entries[i].r_info);
            highest = symbol > highest ? symbol : highest;
        }
    }
    return highest;
}

static void read_symbol(at_elf_file *file, const Elf64_Sym *symbol,
                        unsigned *allocators)
{
    const unsigned binding = ELF64_ST_BIND(symbol->st_info);
    if (symbol->st_shndx == SHN_UNDEF) {
        return;
    }
    if (binding == STB_GNU_UNIQUE) {
        file->has_unique = true;
    }
    if (ELF64_ST_TYPE(symbol->st_info) == STT_GNU_IFUNC) {
        file->must_copy_whole = true;
    }
    if (binding == STB_GLOBAL || binding == STB_WEAK) {
        static const char *const names[] = {"malloc", "free", "_Znwm", "_ZdlPv"};
        for (unsigned i = 0; i < 4; i++) {
            if (strcmp(file->strings + symbol->st_name, names[i]) == 0) {
                *allocators |= 1U << i;
            }
        }
    }
}

static int read_symbols(reader *r)
{
    at_elf_file *file = r->file;
    size_t count = 0, gnu_count = 0;
    int result = r->values.hash != 0 ? count_by_hash(r, &count) : 0;
    if (result == 0 && r->values.gnu_hash != 0) {
        result = count_by_gnu_hash(r, &gnu_count);
    }
    if (result < 0) {
        return result;
    }
    if (r->values.hash != 0 && gnu_count > count) {
        return malformed(r, "its hash tables disagree");
    }
    /* An empty GNU table counts nothing, though relocations may name symbols. */
    const size_t used = highest_symbol(file) + 1;
    count = gnu_count > count ? gnu_count : count;
    count = used > count ? used : count;
    const uint64_t size_bytes = (uint64_t)count * sizeof(Elf64_Sym);
    file->symbols = table_at(file, r->values.symbols, size_bytes, WORD_BYTES);
    if (file->symbols == NULL ||
        (r->values.symbol_bytes != 0 && r->values.symbol_bytes != sizeof(Elf64_Sym))) {
        return malformed(r, "its symbol table is damaged");
    }
    file->symbol_count = count;
    file->symbols_offset =
        (uint64_t)((const unsigned char *)file->symbols - file->data);
    unsigned allocators = 0;
    for (size_t i = 0; i < count; i++) {
        const Elf64_Sym *symbol = &file->symbols[i];
        if (symbol->st_name >= file->strings_size) {
            return malformed(r, "a symbol's name lies outside of its string table");
        }
        if (symbol->st_shndx != SHN_UNDEF && symbol->st_shndx != SHN_ABS &&
            ELF64_ST_TYPE(symbol->st_info) != STT_TLS &&
            symbol->st_value > file->end_address) {
            return malformed(r, "a symbol lies outside of its segments");
        }
        read_symbol(file, symbol, &allocators);
    }
    file->defines_allocator = (allocators & 3) == 3 || (allocators & 12) == 12;
    mark(file, file->symbols_offset, size_bytes,
         file->has_unique ? AT_ELF_PAGE_OWN : AT_ELF_PAGE_READ);
    return 0;
}

/* ---- relocations --------------------------------------------------------------- */

static int check_relocations(reader *r, const at_elf_relocations *table)
{
    at_elf_file *file = r->file;
    const uint32_t flags = r->values.text_relocations ? 0 : PF_W;
    for (size_t i = 0; i < table->count; i++) {
        const Elf64_Rela *entry = &table->entries[i];
        const uint32_t type = ELF64_R_TYPE(entry->r_info);
        if (type == 0) {
            continue;
        }
        if (type == AT_ELF_RELOCATION_IFUNC) {
            file->must_copy_whole = true;
        }
        if (!in_memory(file, entry->r_offset, WORD_BYTES, flags)) {
            return malformed(r, "a relocation lies outside of its data");
        }
        file->relocates_zeros |= table_at(file, entry->r_offset, WORD_BYTES, 1) == NULL;
    }
    return 0;
}

static int read_relocations(reader *r)
{
    at_elf_file *file = r->file;
    const dynamic_values *values = &r->values;
    const uint64_t addresses[2] = {values->rela, values->plt};
    const uint64_t sizes[2] = {values->rela_size, values->plt_size};
    if ((values->rela_bytes != 0 && values->rela_bytes != sizeof(Elf64_Rela)) ||
        (values->plt_kind != 0 && values->plt_kind != DT_RELA)) {
        return malformed(r, "its relocations are of an unknown kind");
    }
    for (int t = 0; t < 2; t++) {
        if (addresses[t] == 0 || sizes[t] == 0) {
            continue;
        }
        at_elf_relocations *table = &file->relocations[t];
        table->entries = table_at(file, addresses[t], sizes[t], WORD_BYTES);
        table->count = sizes[t] / sizeof *table->entries;
        if (table->entries == NULL || sizes[t] % sizeof *table->entries != 0) {
            return malformed(r, "its relocation table is damaged");
        }
        mark_table(file, table->entries, sizes[t], AT_ELF_PAGE_READ);
        int result = check_relocations(r, table);
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

/* DT_RELR: an even word is an address to relocate; an odd one a bitmap of the 63 words
 * that follow the last address. */
static int read_relative_relocations(reader *r)
{
    const dynamic_values *values = &r->values;
    if (values->relr == 0 || values->relr_size == 0) {
        return 0;
    }
    const uint64_t *words =
        table_at(r->file, values->relr, values->relr_size, WORD_BYTES);
    if (words == NULL || values->relr_size % WORD_BYTES != 0) {
        return malformed(r, "its table of relative relocations is damaged");
    }
    mark_table(r->file, words, values->relr_size, AT_ELF_PAGE_READ);
    uint64_t next = 0;
    for (size_t i = 0; i < values->relr_size / WORD_BYTES; i++) {
        const uint64_t word = words[i];
        uint64_t first = next, size_bytes = WORD_BYTES;
        if ((word & 1) == 0) {
            first = word;
            next = word + WORD_BYTES;
        } else {
            next += RELR_BITS * WORD_BYTES;
            if (word >> 1 == 0) {
                continue;
            }
            size_bytes = (uint64_t)(63 - __builtin_clzll(word)) * WORD_BYTES;
        }
        if (!in_memory(r->file, first, size_bytes, PF_W)) {
            return malformed(r, "a relative relocation lies outside of its data");
        }
    }
    return 0;
}

/* ---- versions, constructors ---------------------------------------------------- */

static int read_version_needs(reader *r)
{
    at_elf_file *file = r->file;
    uint64_t address = r->values.version_needs;
    if (address == 0) {
        return 0;
    }
    file->version_needs_offset = offset_of(file, address, sizeof(Elf64_Verneed), 4);
    for (;;) {
        const Elf64_Verneed *need = table_at(file, address, sizeof *need, 4);
        if (need == NULL || need->vn_file >= file->strings_size) {
            return malformed(r, "its table of needed versions is damaged");
        }
        mark_table(file, need, sizeof *need, AT_ELF_PAGE_OWN); /* vn_file is renamed */
        uint64_t entry = address + need->vn_aux;
        for (;;) {
            const Elf64_Vernaux *version = table_at(file, entry, sizeof *version, 4);
            if (version == NULL || version->vna_name >= file->strings_size) {
                return malformed(r, "its table of needed versions is damaged");
            }
            mark_table(file, version, sizeof *version, AT_ELF_PAGE_READ);
            if (version->vna_next == 0) {
                break;
            }
            entry += version->vna_next;
        }
        if (need->vn_next == 0) {
            return 0;
        }
        address += need->vn_next;
    }
}

static int read_version_definitions(reader *r)
{
    at_elf_file *file = r->file;
    uint64_t address = r->values.version_definitions;
    while (address != 0) {
        const Elf64_Verdef *definition = table_at(file, address, sizeof *definition, 4);
        const Elf64_Verdaux *name =
            definition == NULL
                ? NULL
                : table_at(file, address + definition->vd_aux, sizeof *name, 4);
        if (name == NULL || name->vda_name >= file->strings_size) {
            return malformed(r, "its table of versions is damaged");
        }
        mark_table(file, definition, sizeof *definition, AT_ELF_PAGE_READ);
        mark_table(file, name, sizeof *name, AT_ELF_PAGE_READ);
        address = definition->vd_next != 0 ? address + definition->vd_next : 0;
    }
    return 0;
}

static int read_versions(reader *r)
{
    if (r->values.versions != 0) {
        const uint64_t size_bytes = r->file->symbol_count * sizeof(Elf64_Versym);
        const void *table = table_at(r->file, r->values.versions, size_bytes, 2);
        if (table == NULL) {
            return malformed(r, "its table of symbol versions is damaged");
        }
        mark_table(r->file, table, size_bytes, AT_ELF_PAGE_READ);
    }
    int result = read_version_needs(r);
    return result == 0 ? read_version_definitions(r) : result;
}

static int read_function_array(reader *r, uint64_t address, uint64_t size_bytes,
                               uint64_t *array, size_t *count)
{
    if (address == 0 || size_bytes == 0) {
        return 0;
    }
    if (address % WORD_BYTES != 0 || size_bytes % WORD_BYTES != 0 ||
        !in_memory(r->file, address, size_bytes, 0)) {
        return malformed(r, "its list of constructors or destructors is damaged");
    }
    *array = address;
    *count = size_bytes / WORD_BYTES;
    return 0;
}

static int read_constructors(reader *r)
{
    at_elf_file *file = r->file;
    const dynamic_values *values = &r->values;
    if ((values->init != 0 && !in_memory(file, values->init, 1, PF_X)) ||
        (values->fini != 0 && !in_memory(file, values->fini, 1, PF_X))) {
        return malformed(r, "its constructor lies outside of its code");
    }
    file->init_address = values->init;
    file->fini_address = values->fini;
    int result =
        read_function_array(r, values->init_array, values->init_array_size,
                            &file->init_array_address, &file->init_array_count);
    return result < 0
               ? result
               : read_function_array(r, values->fini_array, values->fini_array_size,
                                     &file->fini_array_address,
                                     &file->fini_array_count);
}

/* ---- the whole ----------------------------------------------------------------- */

static int read_file(reader *r)
{
    static int (*const steps[])(reader *) = {
        read_header,  read_segments,    read_dynamic,
        read_strings, read_relocations, read_relative_relocations,
        read_symbols, read_versions,    read_constructors,
    };
    at_elf_file *file = r->file;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        int result = steps[i](r);
        if (result < 0) {
            return result;
        }
    }
    mark(file, 0, sizeof(Elf64_Ehdr), AT_ELF_PAGE_OWN);
    mark_table(file, file->segments, file->segment_count * sizeof *file->segments,
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
        reader r = {.file = file, .fault = fault};
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
