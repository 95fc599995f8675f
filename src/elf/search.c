/* The search of ld.so(8); see search.h. */
#include "elf/search.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "elf/machine.h"
#include "sys/map.h"

#define CACHE_PATH "/etc/ld.so.cache"
#define CACHE_MAGIC "glibc-ld.so.cache1.1"

/* The file format of glibc's sysdeps/generic/dl-cache.h. Offsets count from the head.
 */
typedef struct cache_head {
    char magic[20];
    uint32_t entry_count;
    uint32_t strings_size;
    unsigned char flags;
    unsigned char padding[3];
    uint32_t extension_offset;
    uint32_t unused[3];
} cache_head;

typedef struct cache_entry {
    int32_t flags;
    uint32_t name;
    uint32_t path;
    uint32_t os_version;
    uint64_t hwcap; /* 0 for the library that runs on every processor */
} cache_entry;

static bool is_library(const char *path)
{
    Elf64_Ehdr header;
    return at_file_peek(path, &header, sizeof header) && at_elf_header_fits(&header);
}

/* One element of a search path with $ORIGIN replaced; false if it does not fit, or has
 * a variable that is not followed. */
static bool expand(char *folder, size_t size_bytes, const char *element, size_t length,
                   const at_elf_file *dependent)
{
    size_t used = 0;
    for (size_t i = 0; i < length;) {
        static const char *const spellings[] = {"$ORIGIN", "${ORIGIN}"};
        const char *text = &element[i];
        size_t text_length = 1, skipped = 1;
        for (int s = 0; s < 2 && text == &element[i]; s++) {
            size_t spelling = strlen(spellings[s]);
            if (length - i < spelling || memcmp(text, spellings[s], spelling) != 0) {
                continue;
            }
            if (dependent == NULL) {
                return false;
            }
            text = dependent->path;
            text_length = (size_t)(strrchr(text, '/') - text);
            skipped = spelling;
        }
        if (*text == '$' || used + text_length >= size_bytes) {
            return false;
        }
        memcpy(folder + used, text, text_length);
        used += text_length;
        i += skipped;
    }
    folder[used] = '\0';
    return true;
}

static int search_folders(const at_elf_file *dependent, const char *list,
                          const char *name, char **path)
{
    for (const char *element = list; element != NULL;) {
        const char *end = element + strcspn(element, ":;");
        char folder[PATH_MAX], candidate[PATH_MAX];
        if (expand(folder, sizeof folder, element, (size_t)(end - element),
                   dependent)) {
            int length =
                snprintf(candidate, sizeof candidate, "%s/%s",
                         folder[0] != '\0' || end != element ? folder : ".", name);
            if (length > 0 && (size_t)length < sizeof candidate &&
                is_library(candidate)) {
                return at_file_absolute(candidate, path);
            }
        }
        element = *end != '\0' ? end + 1 : NULL;
    }
    return AT_ENOTFOUND;
}

static const char *cache_string(const char *head, size_t size_bytes, uint32_t offset)
{
    return offset < size_bytes &&
                   memchr(head + offset, '\0', size_bytes - offset) != NULL
               ? head + offset
               : NULL;
}

static int search_cache_data(const char *data, size_t size_bytes, const char *name,
                             char **path)
{
    /* An older table for libc5 may stand before this one. */
    const char *start = memmem(data, size_bytes, CACHE_MAGIC, strlen(CACHE_MAGIC));
    if (start == NULL || (size_bytes -= (size_t)(start - data)) < sizeof(cache_head)) {
        return AT_ENOTFOUND;
    }
    cache_head head;
    memcpy(&head, start, sizeof head);
    if (head.entry_count > (size_bytes - sizeof head) / sizeof(cache_entry)) {
        return AT_ENOTFOUND;
    }
    for (uint32_t i = 0; i < head.entry_count; i++) {
        cache_entry entry;
        memcpy(&entry, start + sizeof head + i * sizeof entry, sizeof entry);
        if (entry.flags != AT_ELF_CACHE_FLAGS || entry.hwcap != 0) {
            continue;
        }
        const char *entry_name = cache_string(start, size_bytes, entry.name);
        const char *entry_path = cache_string(start, size_bytes, entry.path);
        if (entry_name != NULL && entry_path != NULL && strcmp(entry_name, name) == 0 &&
            is_library(entry_path)) {
            return at_file_absolute(entry_path, path);
        }
    }
    return AT_ENOTFOUND;
}

static int search_cache(const char *name, char **path)
{
    at_file_identity identity;
    int descriptor = at_file_open(CACHE_PATH, &identity, NULL);
    if (descriptor < 0 || identity.size_bytes == 0) {
        at_file_close(descriptor);
        return AT_ENOTFOUND;
    }
    const void *data;
    int result = at_map_open(descriptor, identity.size_bytes, &data, NULL);
    at_file_close(descriptor);
    if (result < 0) {
        return AT_ENOTFOUND;
    }
    result = search_cache_data(data, identity.size_bytes, name, path);
    at_map_close(data, identity.size_bytes);
    return result;
}

static int search_list(const at_elf_file *owner, const char *list, const char *name,
                       char **path)
{
    return list != NULL && list[0] != '\0' ? search_folders(owner, list, name, path)
                                           : AT_ENOTFOUND;
}

/* DT_RPATH: each one's $ORIGIN is its own. */
static int search_rpaths(const at_elf_dependent *dependent, const char *name,
                         char **path)
{
    int result = AT_ENOTFOUND;
    if (dependent == NULL || dependent->file->runpath != NULL) {
        return result;
    }
    for (; dependent != NULL && result == AT_ENOTFOUND; dependent = dependent->loader) {
        const at_elf_file *file = dependent->file;
        if (file->runpath == NULL) {
            result = search_list(file, file->rpath, name, path);
        }
    }
    return result;
}

int at_elf_search(const at_elf_dependent *dependent, const char *name, char **path)
{
    const at_elf_file *file = dependent != NULL ? dependent->file : NULL;
    if (strchr(name, '/') != NULL) {
        char expanded[PATH_MAX];
        if (!expand(expanded, sizeof expanded, name, strlen(name), file) ||
            !is_library(expanded)) {
            return AT_ENOTFOUND;
        }
        return at_file_absolute(expanded, path);
    }
    int result = search_rpaths(dependent, name, path);
    if (result == AT_ENOTFOUND) {
        result = search_list(file, getenv("LD_LIBRARY_PATH"), name, path);
    }
    if (result == AT_ENOTFOUND && file != NULL) {
        result = search_list(file, file->runpath, name, path);
    }
    if (result == AT_ENOTFOUND) {
        result = search_cache(name, path);
    }
    return result == AT_ENOTFOUND
               ? search_folders(file, AT_ELF_DEFAULT_FOLDERS, name, path)
               : result;
}
