/* Shared pages; see pages.h. */
#include "elf/pages.h"

#include <string.h>

#include "sys/map.h"

/* A run of writable pages must be this long to be worth a mapping of its own: the
 * kernel allows 65,530 of them a process. */
enum { SHORTEST_RUN_PAGES = 4 };

/* The writable pages of one segment, link-time addresses. */
typedef struct span {
    uint64_t start;     /* of the first page */
    uint64_t file_end;  /* end of the pages that hold file content only */
    uint64_t to_offset; /* add to an address for its place in the file */
} span;

static uint64_t page_down(uint64_t value, uint64_t page_bytes)
{
    return value / page_bytes * page_bytes;
}

static uint64_t page_up(uint64_t value, uint64_t page_bytes)
{
    return page_down(value + page_bytes - 1, page_bytes);
}

static span span_of(const at_elf_file *file, const Elf64_Phdr *segment)
{
    const uint64_t page = file->page_bytes;
    const uint64_t file_end = segment->p_vaddr + segment->p_filesz;
    const uint64_t end = segment->p_vaddr + segment->p_memsz;
    return (span){
        .start = page_down(segment->p_vaddr, page),
        /* The loader zeroes what follows the content in its last page. */
        .file_end =
            end > file_end ? page_down(file_end, page) : page_up(file_end, page),
        .to_offset = segment->p_offset - segment->p_vaddr,
    };
}

static bool is_writable_segment(const Elf64_Phdr *segment)
{
    return segment->p_type == PT_LOAD && (segment->p_flags & PF_W) != 0;
}

/* Is the page in memory what the file has? A page that reaches beyond the end of the
 * file is not compared. */
static bool is_unchanged(const at_elf_file *file, uintptr_t base, const span *s,
                         uint64_t address)
{
    const uint64_t offset = address + s->to_offset;
    return address < s->file_end && offset + file->page_bytes <= file->size_bytes &&
           memcmp((const void *)(base + address), file->data + offset,
                  file->page_bytes) == 0;
}

/* ---- sharing ------------------------------------------------------------------- */

typedef struct sharing {
    const at_elf_file *file;
    uintptr_t base;
    int original;
    int copy;
    size_t shared_bytes;
} sharing;

/* Give back the copy's pages that lie in this segment alone: where segments meet within
 * a page of the file, the other one may be mapped from the copy still. */
static void punch(sharing *s, const Elf64_Phdr *segment, uint64_t offset,
                  uint64_t size_bytes)
{
    const uint64_t page = s->file->page_bytes;
    const uint64_t first = page_up(segment->p_offset, page);
    const uint64_t last = page_down(segment->p_offset + segment->p_filesz, page);
    const uint64_t start = offset > first ? offset : first;
    const uint64_t end = offset + size_bytes < last ? offset + size_bytes : last;
    if (start < end) {
        at_file_punch(s->copy, start, end - start);
    }
}

static int share_run(sharing *s, const Elf64_Phdr *segment, uint64_t offset,
                     uint64_t size_bytes, int access)
{
    const uint64_t address = offset - segment->p_offset + segment->p_vaddr;
    int result = at_map_over((void *)(s->base + address), size_bytes, access,
                             s->original, offset);
    if (result == 0) {
        s->shared_bytes += size_bytes;
        punch(s, segment, offset, size_bytes);
    }
    return result;
}

static int share_read_only(sharing *s, const Elf64_Phdr *segment)
{
    const at_elf_file *file = s->file;
    const uint64_t page = file->page_bytes;
    const int access = ((segment->p_flags & PF_R) != 0 ? AT_MAP_READ : 0) |
                       ((segment->p_flags & PF_X) != 0 ? AT_MAP_EXECUTE : 0);
    const uint64_t start = page_down(segment->p_offset, page);
    const uint64_t end = page_up(segment->p_offset + segment->p_filesz, page);
    for (uint64_t offset = start; offset < end;) {
        uint64_t run_end = offset;
        while (run_end < end && file->pages[run_end / page] != AT_ELF_PAGE_OWN) {
            run_end += page;
        }
        int result = run_end != offset
                         ? share_run(s, segment, offset, run_end - offset, access)
                         : 0;
        if (result < 0) {
            return result;
        }
        offset = run_end + page;
    }
    return 0;
}

/* Has the page been written to since it was mapped, so that the copy's page behind it
 * is not needed any more? To differ from the original is not enough: the copy's own
 * page does where its dynamic table or a version need lies, and the loader need not
 * have written to it (patchelf puts symbols and hash table beside them in such a
 * segment). */
static bool is_private(const sharing *s, uint64_t address, uint64_t offset)
{
    unsigned char stored[4096];
    for (uint64_t at = 0; at < s->file->page_bytes; at += sizeof stored) {
        if (at_file_read_at(s->copy, stored, sizeof stored, offset + at) !=
            (long)sizeof stored) {
            return false;
        }
        if (memcmp(stored, (const void *)(s->base + address + at), sizeof stored) !=
            0) {
            return true;
        }
    }
    return false;
}

/* Pages that relocation has not touched. Those it has are private memory by now. */
static int share_writable(sharing *s, const Elf64_Phdr *segment)
{
    const at_elf_file *file = s->file;
    const uint64_t page = file->page_bytes;
    const span pages = span_of(file, segment);
    for (uint64_t address = pages.start; address < pages.file_end;) {
        const bool relro = at_elf_file_is_relro(file, address);
        uint64_t end = address;
        while (end < pages.file_end && is_unchanged(file, s->base, &pages, end) &&
               at_elf_file_is_relro(file, end) == relro) {
            end += page;
        }
        if (end - address >= SHORTEST_RUN_PAGES * page) {
            int result = share_run(s, segment, address + pages.to_offset, end - address,
                                   relro ? AT_MAP_READ : AT_MAP_READ | AT_MAP_WRITE);
            if (result < 0) {
                return result;
            }
        }
        if (end == address) {
            const uint64_t offset = address + pages.to_offset;
            if (is_private(s, address, offset)) {
                punch(s, segment, offset, page);
            }
            end += page;
        }
        address = end;
    }
    return 0;
}

int at_pages_share(const at_elf_file *file, uintptr_t base, int copy_descriptor,
                   size_t *shared_bytes)
{
    at_file_identity identity;
    int original = at_file_open(file->path, &identity, NULL);
    sharing s = {.file = file, .base = base, .original = original};
    s.copy = copy_descriptor;
    int result = original >= 0 && at_file_identity_equal(&identity, &file->identity)
                     ? 0
                     : AT_EBUSY;
    for (size_t i = 0; i < file->segment_count && result == 0; i++) {
        const Elf64_Phdr *segment = &file->segments[i];
        if (is_writable_segment(segment)) {
            result = share_writable(&s, segment);
        } else if (segment->p_type == PT_LOAD) {
            result = share_read_only(&s, segment);
        }
    }
    at_file_close(original);
    *shared_bytes = s.shared_bytes;
    return result;
}
