/* Libraries, what they need, and the policy; see closure.h.
 *
 * The registry's lock guards the list and the marks of what is opened, and nothing is
 * read, allocated or called under it. Two threads may look at the same file at the same
 * time: the second to finish throws its result away.
 *
 * Libraries may need each other in a circle. A library is therefore entered into the
 * list of the walk before its needs are followed, and only when the walk is over do all
 * of them enter the registry, complete: readers of the registry never see half of one.
 */
#include "elf/closure.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "base/memory.h"

static struct {
    pthread_mutex_t lock;
    at_library *first;   /* guarded: lock */
    char *private_names; /* fixed once there is a library */
    char *shared_names;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- policy -------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* Does the file name begin with the listed name, ended by what ends it in file names:
 * "libgomp" matches "libgomp.so.1" and auditwheel's "libgomp-a34b3233.so.1.0.0"? */
static bool name_matches(const char *file_name, const char *listed, size_t length)
{
    return strncmp(file_name, listed, length) == 0 &&
           (file_name[length] == '\0' || strchr(".-", file_name[length]) != NULL);
}

static bool is_listed(const char *file_name, const char *list)
{
    while (list != NULL && *list != '\0') {
        size_t length = strcspn(list, ":");
        if (length != 0 && name_matches(file_name, list, length)) {
            return true;
        }
        list += length + (list[length] == ':');
    }
    return false;
}

bool at_library_is_system(const char *name)
{
    return is_listed(
        base_name(name),
        "libc:libm:libdl:libpthread:librt:libutil:libresolv:libnsl:libanl:libmvec:"
        "libthread_db:libBrokenLocale:libcrypt:libnss_files:libnss_dns:"
        "ld-linux-x86-64:ld-linux-aarch64:ld-linux:linux-vdso:libstdc++:libgcc_s:"
        "libgomp");
}

static bool owns_the_process(const char *file_name)
{
    return strncmp(file_name, "libpython3", strlen("libpython3")) == 0 ||
           is_listed(file_name,
                     "libucp:libuct:libucs:libucm:libmpi:libmpi_cxx:libmpich:libmpicxx:"
                     "libopen-rte:"
                     "libopen-pal:libpmix:libprrte:libcuda:libnvidia-ml:libOpenCL:"
                     "libjemalloc:libmimalloc:libtcmalloc:libtbbmalloc_proxy:"
                     "libasan:libtsan:libubsan:liblsan");
}

static bool is_shared_by_policy(const at_elf_file *file, bool as_extension)
{
    const char *name = base_name(file->path);
    if (is_listed(name, registry.private_names)) {
        return false;
    }
    return is_listed(name, registry.shared_names) || at_library_is_system(name) ||
           owns_the_process(name) || (file->defines_allocator && !as_extension);
}

int at_library_set_policy(const char *private_names, const char *shared_names)
{
    char *wanted_private = private_names != NULL ? at_strdup(private_names) : NULL;
    char *wanted_shared = shared_names != NULL ? at_strdup(shared_names) : NULL;
    int result = (private_names != NULL && wanted_private == NULL) ||
                         (shared_names != NULL && wanted_shared == NULL)
                     ? AT_ENOMEM
                     : 0;
    if (result == 0) {
        pthread_mutex_lock(&registry.lock);
        if (registry.first != NULL) {
            result = AT_EBUSY;
        } else {
            char *old_private = registry.private_names,
                 *old_shared = registry.shared_names;
            registry.private_names = wanted_private;
            registry.shared_names = wanted_shared;
            wanted_private = old_private;
            wanted_shared = old_shared;
        }
        pthread_mutex_unlock(&registry.lock);
    }
    at_free(wanted_private);
    at_free(wanted_shared);
    return result;
}

/* ---- the walk ------------------------------------------------------------------ */

typedef struct walk {
    at_library *found; /* not in the registry yet, the last one first */
    at_fault *fault;
} walk;

static at_library *find_in(at_library *first, const at_file_identity *identity)
{
    for (at_library *library = first; library != NULL; library = library->next) {
        if (at_file_identity_equal(&library->file->identity, identity)) {
            return library;
        }
    }
    return NULL;
}

static at_library *find_known(const walk *w, const at_file_identity *identity)
{
    at_library *library = find_in(w->found, identity);
    if (library == NULL) {
        pthread_mutex_lock(&registry.lock);
        library = find_in(registry.first, identity);
        pthread_mutex_unlock(&registry.lock);
    }
    return library;
}

static void library_free(at_library *library)
{
    if (library != NULL) {
        at_elf_file_close((at_elf_file *)library->file);
        at_free(library->needs);
        at_free(library);
    }
}

static int library_new(walk *w, const char *path, bool as_extension,
                       const at_library *loader, at_library **made)
{
    at_elf_file *file;
    int result = at_elf_file_open(path, &file, w->fault);
    if (result < 0) {
        return result;
    }
    size_t need_count = 0;
    for (size_t i = 0; i < file->dynamic_count; i++) {
        need_count += file->dynamic[i].d_tag == DT_NEEDED;
    }
    at_library *library = at_calloc(1, sizeof *library);
    at_library_need *needs = at_calloc(need_count, sizeof *needs);
    if (library == NULL || needs == NULL) {
        at_free(library);
        at_free(needs);
        at_elf_file_close(file);
        return at_fault_set(w->fault, AT_ENOMEM, "%s: out of memory", path);
    }
    for (size_t i = 0; i < file->dynamic_count; i++) {
        if (file->dynamic[i].d_tag == DT_NEEDED) {
            needs[library->need_count++].name =
                file->strings + file->dynamic[i].d_un.d_val;
        }
    }
    library->file = file;
    library->dependent.file = file;
    library->dependent.loader = loader != NULL ? &loader->dependent : NULL;
    library->needs = needs;
    library->is_shared = is_shared_by_policy(file, as_extension);
    library->next = w->found;
    w->found = library;
    *made = library;
    return 0;
}

static int walk_needs(walk *w, at_library *library);

static int walk_file(walk *w, const char *path, bool as_extension,
                     const at_library *loader, at_library **library)
{
    at_file_identity identity;
    int descriptor = at_file_open(path, &identity, w->fault);
    if (descriptor < 0) {
        return descriptor;
    }
    at_file_close(descriptor);
    *library = find_known(w, &identity);
    if (*library != NULL) {
        return 0;
    }
    int result = library_new(w, path, as_extension, loader, library);
    return result == 0 ? walk_needs(w, *library) : result;
}

/* A need that cannot be found or read is left open: the loader may have it under that
 * name already, and says what is missing otherwise. Only lack of memory ends the walk.
 */
static int walk_needs(walk *w, at_library *library)
{
    for (size_t i = 0; i < library->need_count; i++) {
        at_library_need *need = &library->needs[i];
        char *path = NULL;
        int result = at_elf_search(&library->dependent, need->name, &path);
        if (result == 0) {
            result = walk_file(w, path, false, library, &need->library);
        }
        at_free(path);
        if (result == AT_ENOMEM) {
            return at_fault_set(w->fault, AT_ENOMEM, "%s: out of memory",
                                library->file->path);
        }
        if (result < 0) {
            need->library = NULL;
        }
    }
    return 0;
}

/* What a shared library needs is shared: it is one library and has one of each. */
static void share_needs(walk *w)
{
    bool changed;
    do {
        changed = false;
        for (at_library *library = w->found; library != NULL; library = library->next) {
            for (size_t i = 0; library->is_shared && i < library->need_count; i++) {
                at_library *needed = library->needs[i].library;
                if (needed != NULL && !needed->is_shared &&
                    find_in(w->found, &needed->file->identity) == needed &&
                    !is_listed(base_name(needed->file->path), registry.private_names)) {
                    needed->is_shared = true;
                    changed = true;
                }
            }
        }
    } while (changed);
}

/* Everything that was found enters at once. If another thread entered one of them in
 * the meantime, false, and the caller walks again: it finds that one then. */
static bool enter_all(walk *w)
{
    bool is_new = true;
    pthread_mutex_lock(&registry.lock);
    for (at_library *library = w->found; library != NULL && is_new;
         library = library->next) {
        is_new = find_in(registry.first, &library->file->identity) == NULL;
    }
    while (is_new && w->found != NULL) {
        at_library *library = w->found;
        w->found = library->next;
        library->next = registry.first;
        registry.first = library;
    }
    pthread_mutex_unlock(&registry.lock);
    return is_new;
}

static void drop_all(walk *w)
{
    while (w->found != NULL) {
        at_library *library = w->found;
        w->found = library->next;
        library_free(library);
    }
}

int at_library_get(const char *path, bool as_extension, at_library **library,
                   at_fault *fault)
{
    for (;;) {
        walk w = {.fault = fault};
        int result = walk_file(&w, path, as_extension, NULL, library);
        if (result < 0) {
            drop_all(&w);
            return result;
        }
        share_needs(&w);
        if (enter_all(&w)) {
            return 0;
        }
        drop_all(&w);
    }
}

/* ---- shared libraries ---------------------------------------------------------- */

void *at_library_open_shared(at_library *library)
{
    pthread_mutex_lock(&registry.lock);
    bool is_opened = library->is_opened;
    void *handle = library->handle;
    pthread_mutex_unlock(&registry.lock);
    if (is_opened) {
        return handle;
    }
    /* By name first: the program may have another file under this name already, and
     * then the loader gives that one to everybody. */
    const char *name =
        library->file->soname != NULL ? library->file->soname : library->file->path;
    handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
    if (handle == NULL) {
        handle = dlopen(library->file->path, RTLD_LAZY | RTLD_LOCAL);
    }
    pthread_mutex_lock(&registry.lock);
    library->handle = handle;
    library->is_opened = true;
    pthread_mutex_unlock(&registry.lock);
    return handle;
}
