/* Points references of an image at their replacements; see relocate.h. */
#include "elf/relocate.h"

#include <dlfcn.h>
#include <string.h>

#include "base/memory.h"
#include "elf/holdings.h"
#include "elf/keys.h"
#include "elf/machine.h"
#include "elf/originals.h"
#include "elf/process.h"
#include "elf/threads.h"
#include "sys/map.h"

/* ---- unique symbols ------------------------------------------------------------ */

static size_t hash_name(const char *name)
{
    uint32_t hash = 2166136261U; /* FNV-1a */
    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * 16777619U;
    }
    return hash;
}

static at_unique_entry *unique_place(const at_unique_table *table, const char *name)
{
    size_t i = hash_name(name) & (table->capacity - 1);
    while (table->entries[i].name != NULL &&
           strcmp(table->entries[i].name, name) != 0) {
        i = (i + 1) & (table->capacity - 1);
    }
    return &table->entries[i];
}

static void *unique_find(const at_unique_table *table, const char *name)
{
    return table->capacity != 0 ? unique_place(table, name)->address : NULL;
}

static int unique_add(at_unique_table *table, const char *name, void *address)
{
    if (table->count >= table->capacity / 2) {
        at_unique_table grown = {.capacity =
                                     table->capacity != 0 ? table->capacity * 2 : 64};
        grown.entries = at_calloc(grown.capacity, sizeof *grown.entries);
        if (grown.entries == NULL) {
            return AT_ENOMEM;
        }
        for (size_t i = 0; i < table->capacity; i++) {
            if (table->entries[i].name != NULL) {
                *unique_place(&grown, table->entries[i].name) = table->entries[i];
            }
        }
        grown.count = table->count;
        at_free(table->entries);
        *table = grown;
    }
    *unique_place(table, name) = (at_unique_entry){name, address};
    table->count++;
    return 0;
}

void at_unique_table_forget(at_unique_table *table, const at_image *image)
{
    const uintptr_t end = image->base + image->library->file->end_address;
    for (size_t i = 0; i < table->capacity; i++) {
        const uintptr_t address = (uintptr_t)table->entries[i].address;
        if (address >= image->base && address < end) {
            table->entries[i].address = NULL; /* the name keeps its place */
        }
    }
}

void at_unique_table_fini(at_unique_table *table)
{
    at_free(table->entries);
    *table = (at_unique_table){0};
}

/* A shared library that the image needs and that has the name as a unique symbol, too:
 * then that is the one, or std::string's empty representation would exist twice. */
static void *unique_in_shared(const at_image *image, const char *name)
{
    for (size_t i = 0; i < image->library->need_count; i++) {
        at_library *library = image->library->needs[i].library;
        if (library == NULL || !library->is_shared || !library->file->has_unique) {
            continue;
        }
        void *handle = at_library_open_shared(library);
        void *address = handle != NULL ? dlsym(handle, name) : NULL;
        Dl_info info;
        const Elf64_Sym *symbol = NULL;
        if (address != NULL &&
            dladdr1(address, &info, (void **)&symbol, RTLD_DL_SYMENT) != 0 &&
            symbol != NULL && ELF64_ST_BIND(symbol->st_info) == STB_GNU_UNIQUE) {
            return address;
        }
    }
    return NULL;
}

static int unique_resolve(at_image_space *space, at_image *image,
                          const Elf64_Sym *symbol, void **address)
{
    const char *name = image->library->file->strings + symbol->st_name;
    *address = unique_find(&space->unique, name);
    if (*address != NULL) {
        return 0;
    }
    *address = unique_in_shared(image, name);
    if (*address == NULL) {
        *address = (void *)(image->base + symbol->st_value);
    }
    return unique_add(&space->unique, name, *address);
}

/* ---- targets ------------------------------------------------------------------- */

/* What elf/ replaces by itself. */
static void *replacement_of(const at_image *image, const char *name)
{
    void *target = at_thread_replacement(image, name);
    target = target != NULL ? target : at_process_replacement(name);
    target = target != NULL ? target : at_holding_replacement(name);
    return target != NULL ? target : at_key_replacement(name);
}

/* Where a reference to this symbol must go, or NULL to leave it. */
static int target_of(at_image_space *space, at_image *image, void *scope,
                     const Elf64_Sym *symbol, void **target)
{
    const char *name = image->library->file->strings + symbol->st_name;
    *target = NULL;
    if (name[0] == '\0' || ELF64_ST_TYPE(symbol->st_info) == STT_TLS) {
        return 0;
    }
    if (symbol->st_shndx != SHN_UNDEF &&
        ELF64_ST_BIND(symbol->st_info) == STB_GNU_UNIQUE) {
        return unique_resolve(space, image, symbol, target);
    }
    if (symbol->st_shndx == SHN_UNDEF) {
        *target = replacement_of(image, name);
        if (*target == NULL && space->hooks.replacement != NULL) {
            *target = space->hooks.replacement(space->hooks.context, name);
        }
        if (*target == NULL) {
            *target = unique_find(&space->unique, name);
        }
    }
    if (*target == NULL && scope != NULL &&
        ELF64_ST_BIND(symbol->st_info) != STB_LOCAL) {
        *target = at_original_bypassed(scope, name);
    }
    return 0;
}

static int find_targets(at_image_space *space, at_image *image, void *scope,
                        void **targets)
{
    const at_elf_file *file = image->library->file;
    for (size_t i = 1; i < file->symbol_count; i++) {
        int result = target_of(space, image, scope, &file->symbols[i], &targets[i]);
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

/* ---- writing ------------------------------------------------------------------- */

/* The page that is writable for the moment, of those that RELRO made read-only. */
typedef struct lifted_page {
    const at_image *image;
    uintptr_t address; /* 0 for none */
} lifted_page;

static int put_down(lifted_page *lifted)
{
    const uintptr_t address = lifted->address;
    lifted->address = 0;
    return address == 0
               ? 0
               : at_map_protect((void *)address,
                                lifted->image->library->file->page_bytes, AT_MAP_READ);
}

static int lift(lifted_page *lifted, uintptr_t address)
{
    const size_t page_bytes = lifted->image->library->file->page_bytes;
    const uintptr_t page = address / page_bytes * page_bytes;
    if (page == lifted->address || !at_elf_file_is_relro(lifted->image->library->file,
                                                         page - lifted->image->base)) {
        return 0;
    }
    int result = put_down(lifted);
    if (result == 0) {
        result = at_map_protect((void *)page, page_bytes, AT_MAP_READ | AT_MAP_WRITE);
    }
    if (result == 0) {
        lifted->address = page;
    }
    return result;
}

static int write_targets(at_image *image, void *const *targets)
{
    lifted_page lifted = {.image = image};
    for (int t = 0; t < 2; t++) {
        const at_elf_relocations *table = &image->library->file->relocations[t];
        for (size_t i = 0; i < table->count; i++) {
            const Elf64_Rela *entry = &table->entries[i];
            const uint32_t type = ELF64_R_TYPE(entry->r_info);
            char *target = targets[ELF64_R_SYM(entry->r_info)];
            if (target == NULL ||
                (type != AT_ELF_RELOCATION_GLOBAL && type != AT_ELF_RELOCATION_CALL &&
                 type != AT_ELF_RELOCATION_ADDRESS)) {
                continue;
            }
            if (type == AT_ELF_RELOCATION_ADDRESS) {
                target += entry->r_addend;
            }
            const uintptr_t place = image->base + entry->r_offset;
            /* Packed data may hold unaligned references. */
            if (memcmp((void *)place, &target, sizeof target) == 0) {
                continue;
            }
            int result = lift(&lifted, place);
            if (result < 0) {
                (void)put_down(&lifted);
                return result;
            }
            memcpy((void *)place, &target, sizeof target);
        }
    }
    return put_down(&lifted);
}

int at_relocate(at_image_space *space, at_image *image, void *scope)
{
    void **targets = at_calloc(image->library->file->symbol_count, sizeof *targets);
    if (targets == NULL) {
        return AT_ENOMEM;
    }
    int result = find_targets(space, image, scope, targets);
    if (result == 0) {
        result = write_targets(image, targets);
    }
    at_free(targets);
    return result;
}
