/* Loads a library with its closure; see load.h.
 *
 * A load goes through its phases with all new images together, because libraries may
 * need each other in a circle and then the loader maps them together:
 *
 * - plan: which images are there, and which must be made; dependencies first. Shared
 *   libraries are opened.
 * - copy: files for the new ones, named first, since they name each other.
 * - open: dlopen; the loader maps and relocates, and no code of an image runs.
 * - prepare: pages shared, references pointed at their replacements.
 * - construct: constructors, dependencies first, by when the images can be found: one
 *   may open its own library (libtbbmalloc does).
 *
 * A failure before `construct` undoes everything.
 */
#include "elf/load.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "elf/originals.h"
#include "elf/pages.h"
#include "elf/relocate.h"
#include "elf/rewrite.h"
#include "sys/process.h"

/* One new image of this load. */
typedef struct step {
    at_image *image;
    at_copy copy;
} step;

typedef struct plan {
    at_image_space *space;
    at_fault *fault;
    int binding; /* RTLD_NOW or RTLD_LAZY */
    step *steps; /* in the order of dependency: the root is the last */
    size_t count, capacity;
    at_image **begun; /* all that will be steps: finds the way out of circles */
    size_t begun_count, begun_capacity;
} plan;

/* What the program was started with: constructors get it from the loader, and so from
 * us. */
static struct {
    int count;
    char **values;
} arguments;

__attribute__((constructor)) static void remember_arguments(int count, char **values)
{
    arguments.count = count;
    arguments.values = values;
}

static int out_of_memory(const plan *p, const at_library *library)
{
    return at_fault_set(p->fault, AT_ENOMEM, "%s: out of memory", library->file->path);
}

/* ---- plan ---------------------------------------------------------------------- */

static int grow(void **array, size_t *capacity, size_t count, size_t element_bytes)
{
    if (count < *capacity) {
        return 0;
    }
    const size_t wanted = *capacity != 0 ? *capacity * 2 : 16;
    void *grown = at_realloc(*array, wanted * element_bytes);
    if (grown == NULL) {
        return AT_ENOMEM;
    }
    *array = grown;
    *capacity = wanted;
    return 0;
}

static int begin(plan *p, at_image *image)
{
    if (grow((void **)&p->begun, &p->begun_capacity, p->begun_count, sizeof *p->begun) <
        0) {
        return AT_ENOMEM;
    }
    p->begun[p->begun_count++] = image;
    return 0;
}

static int add_step(plan *p, at_image *image)
{
    if (grow((void **)&p->steps, &p->capacity, p->count, sizeof *p->steps) < 0) {
        return AT_ENOMEM;
    }
    p->steps[p->count++] = (step){.image = image, .copy.descriptor = -1};
    return 0;
}

static at_image *find_planned(const plan *p, const at_library *library)
{
    for (size_t i = 0; i < p->begun_count; i++) {
        if (p->begun[i]->library == library) {
            return p->begun[i];
        }
    }
    return NULL;
}

static int plan_library(plan *p, at_library *library, at_image **image);

static int plan_needs(plan *p, at_image *image)
{
    const at_library *library = image->library;
    for (size_t i = 0; i < library->need_count; i++) {
        const at_library_need *need = &library->needs[i];
        at_image *needed = at_space_find_name(p->space, need->name);
        if (needed == NULL && need->library != NULL) {
            if (need->library->is_shared) {
                (void)at_library_open_shared(need->library);
                continue;
            }
            int result = plan_library(p, need->library, &needed);
            if (result < 0) {
                return result;
            }
        }
        if (needed != NULL) {
            image->needs[image->need_count++] = needed;
        }
    }
    return 0;
}

static size_t count_global(const at_image_space *space)
{
    size_t count = 0;
    for (const at_image *image = space->first; image != NULL; image = image->next) {
        count += image->is_global;
    }
    return count;
}

/* sys.setdlopenflags with RTLD_GLOBAL: what came later saw its symbols. */
static void add_global_needs(plan *p, at_image *image)
{
    for (at_image *other = p->space->first; other != NULL; other = other->next) {
        bool is_there = !other->is_global;
        for (size_t i = 0; i < image->need_count; i++) {
            is_there |= image->needs[i] == other;
        }
        if (!is_there) {
            image->needs[image->need_count++] = other;
        }
    }
}

static int plan_new(plan *p, at_library *library)
{
    at_image *image = at_calloc(1, sizeof *image);
    if (image == NULL) {
        return AT_ENOMEM;
    }
    image->library = library;
    image->needs =
        at_calloc(library->need_count + count_global(p->space), sizeof(at_image *));
    if (image->needs == NULL || begin(p, image) < 0) {
        at_image_free(image);
        return AT_ENOMEM;
    }
    int result = plan_needs(p, image);
    if (result == 0) {
        add_global_needs(p, image);
        result = add_step(p, image);
    }
    return result;
}

static int plan_library(plan *p, at_library *library, at_image **image)
{
    *image = at_space_find(p->space, library);
    if (*image == NULL) {
        *image = find_planned(p, library);
    }
    if (*image != NULL) {
        return 0;
    }
    int result = plan_new(p, library);
    if (result == AT_ENOMEM) {
        return out_of_memory(p, library);
    }
    *image = find_planned(p, library);
    return result;
}

/* ---- copy and open ------------------------------------------------------------- */

/* In the new table of needs: the system's, other shared ones, what is global in the
 * space, private ones. */
enum { RANK_SYSTEM, RANK_SHARED, RANK_GLOBAL, RANK_PRIVATE };

static at_image *need_by_name(plan *p, const at_image *image,
                              const at_library_need *need)
{
    at_image *by_name = at_space_find_name(p->space, need->name);
    for (size_t i = 0; i < image->need_count; i++) {
        at_image *needed = image->needs[i];
        if (by_name != NULL ? needed == by_name : needed->library == need->library) {
            return needed;
        }
    }
    return NULL;
}

/* What the copy must call a need that has no image. The loader has a shared library
 * open by its SONAME; one without, or needed by another name, by its path. */
static at_copy_need shared_need(const at_library_need *need)
{
    const at_library *library = need->library;
    at_copy_need result = {.old_name = need->name, .new_name = need->name};
    result.rank = at_library_is_system(need->name) ? RANK_SYSTEM : RANK_SHARED;
    if (library != NULL && (library->file->soname == NULL ||
                            strcmp(library->file->soname, need->name) != 0)) {
        result.new_name = library->file->path;
    }
    return result;
}

static int write_copy(plan *p, step *s)
{
    const at_image *image = s->image;
    const at_library *library = image->library;
    const size_t limit = library->need_count + image->need_count;
    at_copy_need *needs = at_calloc(limit, sizeof *needs);
    if (needs == NULL) {
        return out_of_memory(p, library);
    }
    size_t count = 0;
    for (size_t i = 0; i < library->need_count; i++) {
        const at_library_need *need = &library->needs[i];
        const at_image *needed = need_by_name(p, image, need);
        needs[count++] = needed == NULL
                             ? shared_need(need)
                             : (at_copy_need){need->name, needed->name, RANK_PRIVATE};
    }
    for (size_t i = 0; i < image->need_count; i++) {
        bool is_named = false;
        for (size_t n = 0; n < count; n++) {
            is_named |= needs[n].new_name == image->needs[i]->name;
        }
        if (!is_named) {
            needs[count++] = (at_copy_need){NULL, image->needs[i]->name, RANK_GLOBAL};
        }
    }
    int result = at_copy_write(&s->copy, library->file, needs, count, p->fault);
    at_free(needs);
    return result;
}

static int copy_all(plan *p, at_copy_place place)
{
    for (size_t i = 0; i < p->count; i++) {
        step *s = &p->steps[i];
        int result = at_copy_open(s->image->library->file, place, &s->copy, p->fault);
        if (result < 0) {
            return result;
        }
        at_free(s->image->name);
        s->image->name = at_strdup(s->copy.path);
        if (s->image->name == NULL) {
            return out_of_memory(p, s->image->library);
        }
    }
    for (size_t i = 0; i < p->count; i++) {
        int result = write_copy(p, &p->steps[i]);
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

/* What dlopen said, without the name that we gave the copy, and of which library. */
static const char *reason_of_loader(const plan *p, const char **path)
{
    const char *reason = dlerror();
    *path = p->steps[p->count - 1].image->library->file->path;
    if (reason == NULL) {
        return "the loader refuses it";
    }
    for (size_t i = 0; i < p->count; i++) {
        const at_image *image = p->steps[i].image;
        const size_t length = strlen(image->name);
        if (strncmp(reason, image->name, length) == 0 && reason[length] == ':') {
            *path = image->library->file->path;
            return reason + length + strspn(reason + length, ": ");
        }
    }
    return reason;
}

static int refuse(const plan *p)
{
    const char *path;
    const char *reason = reason_of_loader(p, &path);
    if (strstr(reason, "static TLS") != NULL) {
        return at_fault_set(
            p->fault, AT_EUNSUPPORTED,
            "cannot load another private image of %s: the C library has no room left "
            "for its thread-local variables (%s). Start the program with the "
            "environment variable GLIBC_TUNABLES=glibc.rtld.optional_static_tls=65536",
            path, reason);
    }
    if (strstr(reason, "failed to map segment") != NULL) {
        return at_fault_set(
            p->fault, AT_EPERMISSION,
            "the system does not let a private copy of %s be mapped executable (%s)",
            path, reason);
    }
    return at_fault_set(
        p->fault,
        strstr(reason, "cannot open shared object") != NULL ? AT_ENOTFOUND : AT_ESYSTEM,
        "cannot load a private image of %s: %s", path, reason);
}

/* The root is opened first and brings the others, as it does in main: the loader binds
 * all of them in the scope of the root. Opened by itself, each would be bound to what
 * it names, and there are libraries that use another without naming it, because
 * whatever needs them needs that one, too (torch's libtorch_nvshmem.so). */
static int open_all(plan *p)
{
    for (size_t i = p->count; i-- > 0;) {
        at_image *image = p->steps[i].image;
        image->handle = dlopen(image->name, p->binding | RTLD_LOCAL);
        if (image->handle == NULL ||
            dlinfo(image->handle, RTLD_DI_LINKMAP, &image->map) != 0) {
            return refuse(p);
        }
        image->base = image->map->l_addr;
    }
    return 0;
}

static void discard(plan *p)
{
    for (size_t i = p->count; i-- > 0;) {
        at_image *image = p->steps[i].image;
        at_copy_close(&p->steps[i].copy);
        if (image->handle != NULL) {
            (void)dlclose(image->handle);
            image->handle = NULL;
        }
    }
}

/* Files in memory first; where the system forbids to make those (a container's filter)
 * or to map them executable (SELinux, vm.memfd_noexec), a file in a folder may do. */
static int copy_and_open(plan *p)
{
    int result = copy_all(p, AT_COPY_IN_MEMORY);
    result = result == 0 ? open_all(p) : result;
    if (result != AT_EPERMISSION) {
        return result;
    }
    at_fault in_memory = {.text = ""};
    if (p->fault != NULL) {
        in_memory = *p->fault;
    }
    discard(p);
    result = copy_all(p, AT_COPY_IN_CACHE);
    result = result == 0 ? open_all(p) : result;
    if (result < 0 && p->fault != NULL) {
        const at_fault in_cache = *p->fault;
        at_fault_set(p->fault, result,
                     "%.440s. A copy in the cache folder does not do either: %.440s. "
                     "Name a folder "
                     "that is not mounted noexec in ATOLL_CACHE_DIR",
                     in_memory.text, in_cache.text);
    }
    return result;
}

/* ---- prepare ------------------------------------------------------------------- */

/* Debuggers, perf, dladdr and backtraces read the loader's name of a library. It must
 * not be the very path of the original, or the loader would give the image to whoever
 * opens that path: "folder/./name.so". */
static int show_as_original(at_image *image)
{
    const char *path = image->library->file->path;
    const size_t folder = (size_t)(strrchr(path, '/') - path) + 1;
    image->shown_name = at_alloc(strlen(path) + sizeof "./");
    if (image->shown_name == NULL) {
        return AT_ENOMEM;
    }
    (void)sprintf(image->shown_name, "%.*s./%s", (int)folder, path, path + folder);
    image->loader_name = image->map->l_name;
    image->map->l_name = image->shown_name;
    return 0;
}

static int prepare(at_image_space *space, step *s, void *scope)
{
    at_image *image = s->image;
    const at_elf_file *file = image->library->file;
    size_t shared_bytes = 0;
    int result =
        file->must_copy_whole
            ? 0
            : at_pages_share(file, image->base, s->copy.descriptor, &shared_bytes);
    if (result == 0) {
        result = show_as_original(image);
    }
    if (result == 0) {
        result = at_relocate(space, image, scope);
    }
    at_stats_count(s->copy.bytes_written, shared_bytes);
    return result;
}

/* The handle in whose libraries symbols must be looked for again, or NULL where the
 * loader had no original of theirs to prefer. */
static void *find_scope(plan *p)
{
    bool is_needed = false;
    for (size_t i = 0; i < p->count; i++) {
        at_image *image = p->steps[i].image;
        image->has_global_original = at_original_is_global(image);
        is_needed |= image->has_global_original;
    }
    for (const at_image *image = p->space->first; image != NULL; image = image->next) {
        is_needed |= image->has_global_original;
    }
    return is_needed ? p->steps[p->count - 1].image->handle : NULL;
}

static int prepare_all(plan *p)
{
    void *scope = p->count != 0 ? find_scope(p) : NULL;
    for (size_t i = 0; i < p->count; i++) {
        step *s = &p->steps[i];
        int result = prepare(p->space, s, scope);
        const char *path = s->image->library->file->path;
        if (result == AT_EBUSY) {
            return at_fault_set(p->fault, result,
                                "%s was changed while it was being loaded", path);
        }
        if (result < 0) {
            return at_fault_set(p->fault, result,
                                "cannot prepare the private image of %s: %s", path,
                                at_error_text(result));
        }
    }
    return 0;
}

/* A debugger looks at the loader's list when the loader tells it to, which was before
 * the names were set: it has read our copies, in which it finds no names of functions.
 * So have the loader tell it once more, with a library of the C library's that hardly
 * anybody needs. */
static void tell_debugger(void)
{
    if (at_process_is_traced()) {
        void *handle = dlopen("libanl.so.1", RTLD_LAZY | RTLD_LOCAL);
        if (handle != NULL) {
            (void)dlclose(handle);
        }
    }
}

/* ---- construct, destruct ------------------------------------------------------- */

typedef void (*constructor)(int count, char **values, char **environment);
typedef void (*destructor)(void);

static void construct(at_image *image)
{
    const at_elf_file *file = image->library->file;
    image->is_constructed = true;
    if (file->init_address != 0) {
        ((constructor)(image->base + file->init_address))(arguments.count,
                                                          arguments.values, environ);
    }
    const uintptr_t *array =
        (const uintptr_t *)(image->base + file->init_array_address);
    for (size_t i = 0; i < file->init_array_count; i++) {
        if (array[i] != 0 && array[i] != UINTPTR_MAX) {
            ((constructor)array[i])(arguments.count, arguments.values, environ);
        }
    }
}

void at_image_destruct(at_image *image)
{
    const at_elf_file *file = image->library->file;
    if (!image->is_constructed) {
        return;
    }
    image->is_constructed = false;
    const uintptr_t *array =
        (const uintptr_t *)(image->base + file->fini_array_address);
    for (size_t i = file->fini_array_count; i-- > 0;) {
        if (array[i] != 0 && array[i] != UINTPTR_MAX) {
            ((destructor)array[i])();
        }
    }
    if (file->fini_address != 0) {
        ((destructor)(image->base + file->fini_address))();
    }
}

void at_image_free(at_image *image)
{
    if (image->handle != NULL) {
        if (image->loader_name != NULL) {
            image->map->l_name = image->loader_name; /* the loader frees its own */
        }
        (void)dlclose(image->handle);
    }
    at_exit_function *each =
        atomic_load_explicit(&image->exit_functions, memory_order_acquire);
    while (each != NULL) {
        at_exit_function *next = each->next;
        at_free(each);
        each = next;
    }
    at_free(image->shown_name);
    at_free(image->needs);
    at_free(image->name);
    at_free(image);
}

/* ---- the whole ----------------------------------------------------------------- */

static void undo(plan *p)
{
    for (size_t i = p->begun_count; i-- > 0;) {
        at_image *image = p->begun[i];
        at_unique_table_forget(&p->space->unique, image);
        at_image_free(image);
    }
}

int at_load(at_image_space *space, at_library *library, int binding, at_image **image,
            at_fault *fault)
{
    plan p = {.space = space, .fault = fault, .binding = binding};
    int result = plan_library(&p, library, image);
    if (result == 0 && p.count != 0) {
        result = copy_and_open(&p);
    }
    if (result == 0) {
        result = prepare_all(&p);
    }
    for (size_t i = 0; i < p.count; i++) {
        at_copy_close(&p.steps[i].copy);
    }
    if (result < 0) {
        undo(&p);
    } else if (p.count != 0) {
        tell_debugger();
    }
    for (size_t i = 0; i < p.count && result == 0; i++) {
        at_space_add(space, p.steps[i].image);
    }
    for (size_t i = 0; i < p.count && result == 0; i++) {
        construct(p.steps[i].image); /* may load into this space, on this thread */
    }
    at_free(p.steps);
    at_free(p.begun);
    return result;
}
