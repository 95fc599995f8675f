/* See rebind.h. The loader wrote the address of `symbol` into the words that the
 * relocations name; some lie in pages that it made read-only afterwards (RELRO). */
#include "elf/rebind.h"

#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "elf/file.h"
#include "elf/machine.h"
#include "sys/map.h"

static int write_word(const at_elf_file *file, uintptr_t base, uint64_t place,
                      void *function)
{
    const uint64_t page = place & ~(uint64_t)(at_page_bytes() - 1);
    const bool read_only = at_elf_file_is_relro(file, page);
    if (read_only) {
        int result = at_map_protect((void *)(base + page), at_page_bytes(),
                                    AT_MAP_READ | AT_MAP_WRITE);
        if (result < 0) {
            return result;
        }
    }
    /* Whoever calls meanwhile calls the one or the other. */
    atomic_store_explicit((_Atomic(void *) *)(base + place), function,
                          memory_order_relaxed);
    return read_only
               ? at_map_protect((void *)(base + page), at_page_bytes(), AT_MAP_READ)
               : 0;
}

static bool binds(const at_elf_file *file, const Elf64_Rela *entry, const char *symbol)
{
    const uint32_t type = (uint32_t)ELF64_R_TYPE(entry->r_info);
    return (type == AT_ELF_RELOCATION_GLOBAL || type == AT_ELF_RELOCATION_CALL) &&
           strcmp(file->strings + file->symbols[ELF64_R_SYM(entry->r_info)].st_name,
                  symbol) == 0;
}

static int rebind(const at_elf_file *file, uintptr_t base, const char *symbol,
                  void *function)
{
    int count = 0;
    for (size_t table = 0; table < 2; table++) {
        const at_elf_relocations *relocations = &file->relocations[table];
        for (size_t i = 0; i < relocations->count; i++) {
            const Elf64_Rela *entry = &relocations->entries[i];
            if (!binds(file, entry, symbol)) {
                continue;
            }
            int result = write_word(file, base, entry->r_offset, function);
            if (result < 0) {
                return result;
            }
            count++;
        }
    }
    return count;
}

int at_rebind(const char *path, const char *symbol, void *function, at_fault *fault)
{
    void *handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == NULL) {
        return at_fault_set(fault, AT_ENOTFOUND, "%s is not loaded", path);
    }
    struct link_map *map = NULL;
    at_elf_file *file = NULL;
    int result = dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0
                     ? at_fault_set(fault, AT_ESYSTEM, "%s: %s", path, dlerror())
                     : at_elf_file_open(path, &file, fault);
    if (result == 0) {
        result = rebind(file, map->l_addr, symbol, function);
        if (result < 0) {
            (void)at_fault_set(fault, result, "%s: cannot bind %s: %s", path, symbol,
                               at_error_text(result));
        }
    }
    at_elf_file_close(file);
    (void)dlclose(handle);
    return result;
}
