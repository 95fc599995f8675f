/* Writes private copies; see rewrite.h. */
#include "elf/rewrite.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "sys/clock.h"

/* ---- names --------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* The loader knows an image again by the spelling of its path, before it looks at
 * device and inode, and the numbers of descriptors come back. So the serial number is
 * spelled into the path, a bit a step: "./" for 0 and ".//" for 1. The process is named
 * by its ID, because a debugger's /proc/self is the debugger. */
static int name_in_memory(char *path, size_t size_bytes, unsigned serial,
                          int descriptor)
{
    char spelled[3 * 32 + 1];
    size_t used = 0;
    for (; serial != 0; serial >>= 1) {
        used += (size_t)snprintf(spelled + used, sizeof spelled - used, "%s",
                                 (serial & 1) != 0 ? ".//" : "./");
    }
    return snprintf(path, size_bytes, "/proc/%d/fd/%s%d", (int)getpid(), spelled,
                    descriptor);
}

static int name_in_cache(char *path, size_t size_bytes, unsigned serial,
                         const char *library)
{
    const char *folder = getenv("ATOLL_CACHE_DIR");
    const char *below = "";
    if (folder == NULL || folder[0] != '/') {
        folder = getenv("XDG_CACHE_HOME");
        below = "/atoll";
    }
    if (folder == NULL || folder[0] != '/') {
        folder = getenv("HOME");
        below = "/.cache/atoll";
    }
    char own[64];
    if (folder == NULL || folder[0] != '/') {
        (void)snprintf(own, sizeof own, "/tmp/atoll-%u", (unsigned)getuid());
        folder = own;
        below = "";
    }
    /* The time, because processes in containers may share the folder and the ID. */
    return snprintf(path, size_bytes, "%s%s/%d-%lld-%u-%s", folder, below,
                    (int)getpid(), (long long)at_clock_ns(), serial, library);
}

int at_copy_open(const at_elf_file *file, at_copy_place place, at_copy *copy,
                 at_fault *fault)
{
    static atomic_uint serials; /* of paths: never the same twice in a process */
    const unsigned serial = atomic_fetch_add(&serials, 1) + 1;
    const char *library = base_name(file->path);
    char path[4096];
    int length;
    *copy = (at_copy){.descriptor = -1, .place = place};
    if (place == AT_COPY_IN_MEMORY) {
        copy->descriptor = at_file_new_anonymous(library, fault);
        if (copy->descriptor < 0) {
            return copy->descriptor;
        }
        length = name_in_memory(path, sizeof path, serial, copy->descriptor);
    } else {
        length = name_in_cache(path, sizeof path, serial, library);
    }
    if (length > 0 && (size_t)length < sizeof path) {
        copy->path = at_strdup(path);
    }
    if (copy->path == NULL) {
        at_file_close(copy->descriptor);
        copy->descriptor = -1;
        return at_fault_set(fault, AT_ENOMEM, "%s: out of memory", file->path);
    }
    if (place == AT_COPY_IN_CACHE) {
        copy->descriptor = at_file_new(copy->path, fault);
        if (copy->descriptor < 0) {
            int result = copy->descriptor;
            at_free(copy->path); /* and leave alone what stands there */
            *copy = (at_copy){.descriptor = -1, .place = place};
            return result;
        }
    }
    return 0;
}

void at_copy_close(at_copy *copy)
{
    if (copy->place == AT_COPY_IN_CACHE && copy->path != NULL) {
        at_file_remove(copy->path);
    }
    at_file_close(copy->descriptor);
    at_free(copy->path);
    copy->path = NULL;
    copy->descriptor = -1;
}

/* ---- the tail ------------------------------------------------------------------ */

/* Its parts in order, all multiples of 8 bytes but the last: program headers, dynamic
 * table if it has no room in its old place, strings. */
typedef struct tail {
    uint64_t offset;  /* in the copy */
    uint64_t address; /* of the segment */
    at_bytes strings;
    uint64_t strings_from; /* what an offset into `strings` is counted from */
    size_t segments_size;
    size_t dynamic_count;   /* of the new table, with its DT_NULL */
    size_t dynamic_size;    /* in the tail: 0 if it is in its old place */
    uint64_t *need_offsets; /* of the new names, in the string table */
    uint64_t soname_offset;
} tail;

static uint64_t page_up(const at_elf_file *file, uint64_t value)
{
    return (value + file->page_bytes - 1) / file->page_bytes * file->page_bytes;
}

static int add_string(tail *t, const char *text, uint64_t *offset)
{
    *offset = t->strings_from + t->strings.size;
    return at_bytes_append(&t->strings, text, strlen(text) + 1);
}

static bool is_dropped(int64_t tag)
{
    switch (tag) {
    case DT_NEEDED: /* written anew, in order, as DT_SONAME and DT_STRSZ are */
    case DT_SONAME:
    case DT_STRSZ:
    case DT_RPATH:
    case DT_RUNPATH:
    case DT_INIT:
    case DT_INIT_ARRAY:
    case DT_INIT_ARRAYSZ:
    case DT_FINI:
    case DT_FINI_ARRAY:
    case DT_FINI_ARRAYSZ:
        return true;
    default:
        return false;
    }
}

static int plan_tail(tail *t, const at_copy *copy, const at_elf_file *file,
                     const at_copy_need *needs, size_t need_count)
{
    t->offset = page_up(file, file->size_bytes);
    t->address = page_up(file, file->end_address);
    t->segments_size = (file->segment_count + 1) * sizeof(Elf64_Phdr);
    t->dynamic_count = need_count + 3; /* SONAME, STRSZ and the closing DT_NULL */
    for (size_t i = 0; i < file->dynamic_count; i++) {
        t->dynamic_count += !is_dropped(file->dynamic[i].d_tag);
    }
    t->dynamic_size = t->dynamic_count > file->dynamic_capacity
                          ? t->dynamic_count * sizeof(Elf64_Dyn)
                          : 0;
    t->strings_from =
        t->address + t->segments_size + t->dynamic_size - file->strings_address;
    t->need_offsets = at_calloc(need_count, sizeof *t->need_offsets);
    int result = t->need_offsets != NULL ? 0 : AT_ENOMEM;
    for (size_t i = 0; i < need_count && result == 0; i++) {
        result = add_string(t, needs[i].new_name, &t->need_offsets[i]);
    }
    return result == 0 ? add_string(t, copy->path, &t->soname_offset) : result;
}

static void fill_segments(Elf64_Phdr *segments, const tail *t, const at_elf_file *file)
{
    /* The loader wants PT_LOAD in the order of addresses: ours is the last. */
    memcpy(segments, file->segments, file->segment_count * sizeof *segments);
    for (size_t i = 0; i < file->segment_count; i++) {
        Elf64_Phdr *segment = &segments[i];
        if (segment->p_type == PT_DYNAMIC && t->dynamic_size != 0) {
            segment->p_offset = t->offset + t->segments_size;
            segment->p_vaddr = t->address + t->segments_size;
            segment->p_filesz = t->dynamic_size;
        } else if (segment->p_type == PT_PHDR) {
            segment->p_offset = t->offset;
            segment->p_vaddr = t->address;
            segment->p_filesz = t->segments_size;
        } else {
            continue;
        }
        segment->p_paddr = segment->p_vaddr;
        segment->p_memsz = segment->p_filesz;
    }
    segments[file->segment_count] = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_flags = PF_R | PF_W, /* the loader writes into the dynamic table */
        .p_offset = t->offset,
        .p_vaddr = t->address,
        .p_paddr = t->address,
        .p_filesz = t->segments_size + t->dynamic_size + t->strings.size,
        .p_memsz = t->segments_size + t->dynamic_size + t->strings.size,
        .p_align = file->page_bytes,
    };
}

static void fill_dynamic(Elf64_Dyn *dynamic, const tail *t, const at_elf_file *file,
                         size_t need_count)
{
    Elf64_Dyn *next = dynamic;
    for (size_t i = 0; i < need_count; i++) {
        *next++ = (Elf64_Dyn){.d_tag = DT_NEEDED, .d_un.d_val = t->need_offsets[i]};
    }
    *next++ = (Elf64_Dyn){.d_tag = DT_SONAME, .d_un.d_val = t->soname_offset};
    *next++ =
        (Elf64_Dyn){.d_tag = DT_STRSZ, .d_un.d_val = t->strings_from + t->strings.size};
    for (size_t i = 0; i < file->dynamic_count; i++) {
        if (is_dropped(file->dynamic[i].d_tag)) {
            continue;
        }
        *next = file->dynamic[i];
        if (next->d_tag == DT_FLAGS_1) {
            next->d_un.d_val &= ~(uint64_t)(DF_1_NODELETE | DF_1_INITFIRST);
        }
        next++;
    }
    *next = (Elf64_Dyn){.d_tag = DT_NULL};
}

static int write_tail(at_copy *copy, const tail *t, const at_elf_file *file,
                      size_t need_count, at_fault *fault)
{
    const size_t tail_size = t->segments_size + t->dynamic_size + t->strings.size;
    const size_t in_place_size =
        t->dynamic_size != 0 ? 0 : file->dynamic_capacity * sizeof(Elf64_Dyn);
    char *block = at_calloc(1, tail_size + in_place_size + sizeof(Elf64_Dyn));
    if (block == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "%s: out of memory", file->path);
    }
    char *strings = block + t->segments_size + t->dynamic_size;
    fill_segments((Elf64_Phdr *)block, t, file);
    memcpy(strings, t->strings.data, t->strings.size);
    int result;
    if (in_place_size == 0) {
        fill_dynamic((Elf64_Dyn *)(block + t->segments_size), t, file, need_count);
        result = at_file_write_at(copy->descriptor, block, tail_size, t->offset, fault);
    } else {
        char *in_place = block + (tail_size + 7) / 8 * 8;
        fill_dynamic((Elf64_Dyn *)in_place, t, file, need_count);
        result = at_file_write_at(copy->descriptor, block, tail_size, t->offset, fault);
        if (result == 0) {
            result = at_file_write_at(copy->descriptor, in_place, in_place_size,
                                      file->dynamic_offset, fault);
        }
    }
    at_free(block);
    copy->bytes_written += tail_size;
    return result;
}

/* ---- pages and patches --------------------------------------------------------- */

static int write_pages(at_copy *copy, const at_elf_file *file, at_fault *fault)
{
    const size_t page = file->page_bytes;
    for (size_t i = 0; i < file->page_count;) {
        size_t end = i;
        while (end < file->page_count &&
               (file->must_copy_whole || file->pages[end] != AT_ELF_PAGE_SHARED)) {
            end++;
        }
        if (end != i) {
            const size_t offset = i * page;
            const size_t stop =
                end * page < file->size_bytes ? end * page : file->size_bytes;
            int result = at_file_write_at(copy->descriptor, file->data + offset,
                                          stop - offset, offset, fault);
            if (result < 0) {
                return result;
            }
            copy->bytes_written += stop - offset;
        }
        i = end + 1;
    }
    return 0;
}

static int write_header(at_copy *copy, const tail *t, const at_elf_file *file,
                        at_fault *fault)
{
    Elf64_Ehdr header;
    memcpy(&header, file->data, sizeof header);
    header.e_phoff = t->offset;
    header.e_phnum = (Elf64_Half)(file->segment_count + 1);
    header.e_shoff = 0; /* sections are not copied */
    header.e_shnum = 0;
    header.e_shstrndx = 0;
    return at_file_write_at(copy->descriptor, &header, sizeof header, 0, fault);
}

static int write_weak_symbols(at_copy *copy, const at_elf_file *file, at_fault *fault)
{
    if (!file->has_unique) {
        return 0;
    }
    const size_t size_bytes = file->symbol_count * sizeof *file->symbols;
    Elf64_Sym *symbols = at_alloc(size_bytes);
    if (symbols == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "%s: out of memory", file->path);
    }
    memcpy(symbols, file->symbols, size_bytes);
    for (size_t i = 0; i < file->symbol_count; i++) {
        const unsigned char info = symbols[i].st_info;
        if (ELF64_ST_BIND(info) == STB_GNU_UNIQUE) {
            symbols[i].st_info = ELF64_ST_INFO(STB_WEAK, ELF64_ST_TYPE(info));
        }
    }
    int result = at_file_write_at(copy->descriptor, symbols, size_bytes,
                                  file->symbols_offset, fault);
    at_free(symbols);
    return result;
}

/* The loader checks versions against the library that a version need names, and finds
 * that library by its name. */
static int write_version_needs(at_copy *copy, const tail *t, const at_elf_file *file,
                               const at_copy_need *needs, size_t need_count,
                               at_fault *fault)
{
    uint64_t offset = file->version_needs_offset;
    while (offset != 0) {
        const Elf64_Verneed *need = (const Elf64_Verneed *)(file->data + offset);
        for (size_t i = 0; i < need_count; i++) {
            if (needs[i].old_name == NULL ||
                strcmp(needs[i].old_name, file->strings + need->vn_file) != 0) {
                continue;
            }
            /* 32 bits: files of 4 GB do not get here (at_copy_write). */
            const Elf64_Word name = (Elf64_Word)t->need_offsets[i];
            int result =
                at_file_write_at(copy->descriptor, &name, sizeof name,
                                 offset + offsetof(Elf64_Verneed, vn_file), fault);
            if (result < 0) {
                return result;
            }
            break;
        }
        offset = need->vn_next != 0 ? offset + need->vn_next : 0;
    }
    return 0;
}

static void sort_needs(at_copy_need *needs, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        const at_copy_need need = needs[i];
        size_t place = i;
        for (; place > 0 && needs[place - 1].rank > need.rank; place--) {
            needs[place] = needs[place - 1];
        }
        needs[place] = need;
    }
}

int at_copy_write(at_copy *copy, const at_elf_file *file, at_copy_need *needs,
                  size_t need_count, at_fault *fault)
{
    tail t = {0};
    at_bytes_init(&t.strings);
    sort_needs(needs, need_count);
    int result = plan_tail(&t, copy, file, needs, need_count);
    if (result < 0) {
        at_fault_set(fault, result, "%s: out of memory", file->path);
        goto done;
    }
    if (t.strings_from + t.strings.size > UINT32_MAX) {
        result = at_fault_set(fault, AT_EUNSUPPORTED,
                              "%s is too large for a private image", file->path);
        goto done;
    }
    result = at_file_resize(copy->descriptor, page_up(file, t.offset + t.segments_size),
                            fault);
    if (result == 0) {
        result = write_pages(copy, file, fault);
    }
    if (result == 0) {
        result = write_header(copy, &t, file, fault);
    }
    if (result == 0) {
        result = write_weak_symbols(copy, file, fault);
    }
    if (result == 0) {
        result = write_version_needs(copy, &t, file, needs, need_count, fault);
    }
    if (result == 0) {
        result = write_tail(copy, &t, file, need_count, fault);
    }
done:
    at_bytes_fini(&t.strings);
    at_free(t.need_offsets);
    return result;
}
