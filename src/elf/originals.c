/* Bindings to originals; see originals.h.
 *
 * A definition and its copy in an image lie at the same place of their libraries. That
 * tells an original from any other library that has the name, which is meant to come
 * first: an allocator that was preloaded.
 */
#include "elf/originals.h"

#include <dlfcn.h>

#include "sys/map.h"

/* So many symbols of a library are tried: one may be hidden by another library's. */
enum { TRIED_COUNT = 8 };

/* The library that has the address, and where in it; NULL for none. */
static const struct link_map *library_at(void *address, uintptr_t *place)
{
    Dl_info info;
    struct link_map *map = NULL;
    if (address == NULL ||
        dladdr1(address, &info, (void **)&map, RTLD_DL_LINKMAP) == 0 || map == NULL) {
        return NULL;
    }
    *place = (uintptr_t)address - map->l_addr;
    return map;
}

/* Libraries are loaded at whole pages: asked before dladdr, which looks at each symbol
 * of a library in turn. */
static bool lies_at_same_place(uintptr_t address, uintptr_t other)
{
    return address != 0 && (address - other) % at_page_bytes() == 0;
}

static bool is_exported(const Elf64_Sym *symbol)
{
    const unsigned type = ELF64_ST_TYPE(symbol->st_info);
    return symbol->st_shndx != SHN_UNDEF && symbol->st_shndx < SHN_LORESERVE &&
           ELF64_ST_BIND(symbol->st_info) == STB_GLOBAL &&
           ELF64_ST_VISIBILITY(symbol->st_other) == STV_DEFAULT &&
           (type == STT_FUNC || type == STT_OBJECT);
}

bool at_original_is_global(const at_image *image)
{
    const at_elf_file *file = image->library->file;
    int tried = 0;
    for (size_t i = 1; i < file->symbol_count && tried < TRIED_COUNT; i++) {
        const Elf64_Sym *symbol = &file->symbols[i];
        if (!is_exported(symbol)) {
            continue;
        }
        tried++;
        uintptr_t place = 0;
        void *seen = dlsym(RTLD_DEFAULT, file->strings + symbol->st_name);
        if (!lies_at_same_place((uintptr_t)seen, symbol->st_value)) {
            continue;
        }
        const struct link_map *map = library_at(seen, &place);
        if (map != NULL && map != image->map && place == symbol->st_value) {
            return true;
        }
    }
    return false;
}

void *at_original_bypassed(void *handle, const char *symbol)
{
    void *seen = dlsym(RTLD_DEFAULT, symbol);
    void *own = seen != NULL ? dlsym(handle, symbol) : NULL;
    if (own == seen || !lies_at_same_place((uintptr_t)seen, (uintptr_t)own)) {
        return NULL;
    }
    uintptr_t seen_place = 0, own_place = 0;
    const struct link_map *original = library_at(seen, &seen_place);
    const struct link_map *image = library_at(own, &own_place);
    return original != NULL && image != NULL && original != image &&
                   seen_place == own_place
               ? own
               : NULL;
}
