/* The tables of an ELF library that need its strings; see reader.h.
 *
 * Everything that is an index, an offset or a count in them is checked here, so that
 * nobody else has to.
 */
#include "elf/reader.h"

#include <string.h>

#include "elf/machine.h"

enum { RELR_BITS = 63 };

/* ---- symbols ------------------------------------------------------------------- */

static int count_by_hash(at_reader *r, size_t *count)
{
    at_elf_file *file = r->file;
    const uint64_t address = r->values.hash;
    const uint32_t *head =
        at_reader_table(file, address, 2 * sizeof *head, sizeof *head);
    if (head == NULL) {
        return at_reader_malformed(r, "its hash table is damaged");
    }
    uint64_t words = 2 + (uint64_t)head[0] + head[1];
    if (at_reader_table(file, address, words * sizeof *head, sizeof *head) == NULL) {
        return at_reader_malformed(r, "its hash table is damaged");
    }
    at_reader_mark_table(file, head, words * sizeof *head, AT_ELF_PAGE_READ);
    for (uint64_t i = 2; i < words; i++) {
        if (head[i] >= head[1]) {
            return at_reader_malformed(
                r, "its hash table names a symbol that is not there");
        }
    }
    *count = head[1];
    return 0;
}

/* The GNU table does not say how many symbols there are: the last chain's end does. */
static int count_by_gnu_hash(at_reader *r, size_t *count)
{
    at_elf_file *file = r->file;
    const uint64_t address = r->values.gnu_hash;
    const uint32_t *head =
        at_reader_table(file, address, 4 * sizeof *head, AT_ELF_WORD_BYTES);
    if (head == NULL || head[0] == 0 || head[2] == 0 ||
        (head[2] & (head[2] - 1)) != 0) {
        return at_reader_malformed(r, "its GNU hash table is damaged");
    }
    const uint64_t bucket_count = head[0], first = head[1];
    const uint64_t fixed_bytes =
        16 + (uint64_t)head[2] * AT_ELF_WORD_BYTES + bucket_count * 4;
    if (at_reader_table(file, address, fixed_bytes, AT_ELF_WORD_BYTES) == NULL) {
        return at_reader_malformed(r, "its GNU hash table is damaged");
    }
    const uint32_t *buckets = head + 4 + (size_t)head[2] * 2;
    uint64_t last = 0;
    for (uint64_t i = 0; i < bucket_count; i++) {
        if (buckets[i] != 0 && buckets[i] < first) {
            return at_reader_malformed(r, "its GNU hash table is damaged");
        }
        last = buckets[i] > last ? buckets[i] : last;
    }
    uint64_t chain_bytes = 0;
    if (last != 0) {
        const uint32_t *link;
        do {
            chain_bytes = (last - first + 1) * 4;
            link = at_reader_table(file, address + fixed_bytes + chain_bytes - 4, 4, 4);
            last++;
        } while (link != NULL && (*link & 1) == 0);
        if (link == NULL || at_reader_table(file, address, fixed_bytes + chain_bytes,
                                            AT_ELF_WORD_BYTES) == NULL) {
            return at_reader_malformed(r, "its GNU hash table is damaged");
        }
    }
    at_reader_mark_table(file, head, fixed_bytes + chain_bytes, AT_ELF_PAGE_READ);
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

int at_reader_symbols(at_reader *r)
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
        return at_reader_malformed(r, "its hash tables disagree");
    }
    /* An empty GNU table counts nothing, though relocations may name symbols. */
    const size_t used = highest_symbol(file) + 1;
    count = gnu_count > count ? gnu_count : count;
    count = used > count ? used : count;
    const uint64_t size_bytes = (uint64_t)count * sizeof(Elf64_Sym);
    file->symbols =
        at_reader_table(file, r->values.symbols, size_bytes, AT_ELF_WORD_BYTES);
    if (file->symbols == NULL ||
        (r->values.symbol_bytes != 0 && r->values.symbol_bytes != sizeof(Elf64_Sym))) {
        return at_reader_malformed(r, "its symbol table is damaged");
    }
    file->symbol_count = count;
    file->symbols_offset =
        (uint64_t)((const unsigned char *)file->symbols - file->data);
    unsigned allocators = 0;
    for (size_t i = 0; i < count; i++) {
        const Elf64_Sym *symbol = &file->symbols[i];
        if (symbol->st_name >= file->strings_size) {
            return at_reader_malformed(
                r, "a symbol's name lies outside of its string table");
        }
        if (symbol->st_shndx != SHN_UNDEF && symbol->st_shndx != SHN_ABS &&
            ELF64_ST_TYPE(symbol->st_info) != STT_TLS &&
            symbol->st_value > file->end_address) {
            return at_reader_malformed(r, "a symbol lies outside of its segments");
        }
        read_symbol(file, symbol, &allocators);
    }
    file->defines_allocator = (allocators & 3) == 3 || (allocators & 12) == 12;
    at_reader_mark(file, file->symbols_offset, size_bytes,
                   file->has_unique ? AT_ELF_PAGE_OWN : AT_ELF_PAGE_READ);
    return 0;
}

/* ---- relocations --------------------------------------------------------------- */

static int check_relocations(at_reader *r, const at_elf_relocations *table)
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
        if (!at_reader_in_memory(file, entry->r_offset, AT_ELF_WORD_BYTES, flags)) {
            return at_reader_malformed(r, "a relocation lies outside of its data");
        }
    }
    return 0;
}

int at_reader_relocations(at_reader *r)
{
    at_elf_file *file = r->file;
    const at_dynamic_values *values = &r->values;
    const uint64_t addresses[2] = {values->rela, values->plt};
    const uint64_t sizes[2] = {values->rela_size, values->plt_size};
    if ((values->rela_bytes != 0 && values->rela_bytes != sizeof(Elf64_Rela)) ||
        (values->plt_kind != 0 && values->plt_kind != DT_RELA)) {
        return at_reader_malformed(r, "its relocations are of an unknown kind");
    }
    for (int t = 0; t < 2; t++) {
        if (addresses[t] == 0 || sizes[t] == 0) {
            continue;
        }
        at_elf_relocations *table = &file->relocations[t];
        table->entries =
            at_reader_table(file, addresses[t], sizes[t], AT_ELF_WORD_BYTES);
        table->count = sizes[t] / sizeof *table->entries;
        if (table->entries == NULL || sizes[t] % sizeof *table->entries != 0) {
            return at_reader_malformed(r, "its relocation table is damaged");
        }
        at_reader_mark_table(file, table->entries, sizes[t], AT_ELF_PAGE_READ);
        int result = check_relocations(r, table);
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

/* DT_RELR: an even word is an address to relocate; an odd one a bitmap of the 63 words
 * that follow the last address. */
int at_reader_relative_relocations(at_reader *r)
{
    const at_dynamic_values *values = &r->values;
    if (values->relr == 0 || values->relr_size == 0) {
        return 0;
    }
    const uint64_t *words =
        at_reader_table(r->file, values->relr, values->relr_size, AT_ELF_WORD_BYTES);
    if (words == NULL || values->relr_size % AT_ELF_WORD_BYTES != 0) {
        return at_reader_malformed(r, "its table of relative relocations is damaged");
    }
    at_reader_mark_table(r->file, words, values->relr_size, AT_ELF_PAGE_READ);
    uint64_t next = 0;
    for (size_t i = 0; i < values->relr_size / AT_ELF_WORD_BYTES; i++) {
        const uint64_t word = words[i];
        uint64_t first = next, size_bytes = AT_ELF_WORD_BYTES;
        if ((word & 1) == 0) {
            first = word;
            next = word + AT_ELF_WORD_BYTES;
        } else {
            next += (uint64_t)RELR_BITS * AT_ELF_WORD_BYTES;
            if (word >> 1 == 0) {
                continue;
            }
            size_bytes = (uint64_t)(63 - __builtin_clzll(word)) * AT_ELF_WORD_BYTES;
        }
        if (!at_reader_in_memory(r->file, first, size_bytes, PF_W)) {
            return at_reader_malformed(
                r, "a relative relocation lies outside of its data");
        }
    }
    return 0;
}

/* ---- versions, constructors ---------------------------------------------------- */

static int read_version_needs(at_reader *r)
{
    at_elf_file *file = r->file;
    uint64_t address = r->values.version_needs;
    if (address == 0) {
        return 0;
    }
    file->version_needs_offset =
        at_reader_offset(file, address, sizeof(Elf64_Verneed), 4);
    for (;;) {
        const Elf64_Verneed *need = at_reader_table(file, address, sizeof *need, 4);
        if (need == NULL || need->vn_file >= file->strings_size) {
            return at_reader_malformed(r, "its table of needed versions is damaged");
        }
        at_reader_mark_table(file, need, sizeof *need,
                             AT_ELF_PAGE_OWN); /* vn_file is renamed */
        uint64_t entry = address + need->vn_aux;
        for (;;) {
            const Elf64_Vernaux *version =
                at_reader_table(file, entry, sizeof *version, 4);
            if (version == NULL || version->vna_name >= file->strings_size) {
                return at_reader_malformed(r,
                                           "its table of needed versions is damaged");
            }
            at_reader_mark_table(file, version, sizeof *version, AT_ELF_PAGE_READ);
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

static int read_version_definitions(at_reader *r)
{
    at_elf_file *file = r->file;
    uint64_t address = r->values.version_definitions;
    while (address != 0) {
        const Elf64_Verdef *definition =
            at_reader_table(file, address, sizeof *definition, 4);
        const Elf64_Verdaux *name =
            definition == NULL
                ? NULL
                : at_reader_table(file, address + definition->vd_aux, sizeof *name, 4);
        if (name == NULL || name->vda_name >= file->strings_size) {
            return at_reader_malformed(r, "its table of versions is damaged");
        }
        at_reader_mark_table(file, definition, sizeof *definition, AT_ELF_PAGE_READ);
        at_reader_mark_table(file, name, sizeof *name, AT_ELF_PAGE_READ);
        address = definition->vd_next != 0 ? address + definition->vd_next : 0;
    }
    return 0;
}

int at_reader_versions(at_reader *r)
{
    if (r->values.versions != 0) {
        const uint64_t size_bytes = r->file->symbol_count * sizeof(Elf64_Versym);
        const void *table = at_reader_table(r->file, r->values.versions, size_bytes, 2);
        if (table == NULL) {
            return at_reader_malformed(r, "its table of symbol versions is damaged");
        }
        at_reader_mark_table(r->file, table, size_bytes, AT_ELF_PAGE_READ);
    }
    int result = read_version_needs(r);
    return result == 0 ? read_version_definitions(r) : result;
}

static int read_function_array(at_reader *r, uint64_t address, uint64_t size_bytes,
                               uint64_t *array, size_t *count)
{
    if (address == 0 || size_bytes == 0) {
        return 0;
    }
    if (address % AT_ELF_WORD_BYTES != 0 || size_bytes % AT_ELF_WORD_BYTES != 0 ||
        !at_reader_in_memory(r->file, address, size_bytes, 0)) {
        return at_reader_malformed(
            r, "its list of constructors or destructors is damaged");
    }
    *array = address;
    *count = size_bytes / AT_ELF_WORD_BYTES;
    return 0;
}

int at_reader_constructors(at_reader *r)
{
    at_elf_file *file = r->file;
    const at_dynamic_values *values = &r->values;
    if ((values->init != 0 && !at_reader_in_memory(file, values->init, 1, PF_X)) ||
        (values->fini != 0 && !at_reader_in_memory(file, values->fini, 1, PF_X))) {
        return at_reader_malformed(r, "its constructor lies outside of its code");
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
