/* Private images: state of their own, text in common, hooks, closure, fates.
 *
 * What is left mapped on purpose (AT_IMAGE_KEEP, and the registry of libraries) is
 * reachable from globals: no leak to a checker. */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "check.h"
#include "elf/image.h"

#define LIBRARY(name) TEST_LIBRARIES "/" name

/* ---- what every test needs ----------------------------------------------------- */

static pid_t hooked_getppid(void)
{
    return 4242;
}

/* The space whose code is running: a real owner has one thunk a space. */
static _Thread_local at_image_space *dlopen_space;

static void *hooked_dlopen(const char *name, int flags)
{
    return at_image_dlopen(dlopen_space, name, flags, __builtin_return_address(0));
}

static void *replacement(void *context, const char *symbol)
{
    (void)context;
    if (strcmp(symbol, "getppid") == 0) {
        return (void *)hooked_getppid;
    }
    return strcmp(symbol, "dlopen") == 0 ? (void *)hooked_dlopen : NULL;
}

static const at_image_hooks hooks = {.replacement = replacement};

static at_image_space *space_new(void)
{
    at_image_space *space;
    CHECK(at_image_space_new(1, &hooks, &space) == 0);
    dlopen_space = space;
    return space;
}

static at_image *load(at_image_space *space, const char *path)
{
    at_image *image;
    at_fault fault = {.text = ""};
    dlopen_space = space;
    if (at_image_load(space, path, RTLD_NOW, &image, &fault) < 0) {
        (void)fprintf(stderr, "%s\n", fault.text);
        exit(1);
    }
    return image;
}

static void *symbol(at_image *image, const char *name)
{
    void *address = at_image_symbol(image, name);
    CHECK(address != NULL);
    return address;
}

static int call(at_image *image, const char *name)
{
    return ((int (*)(void))symbol(image, name))();
}

/* ---- tests --------------------------------------------------------------------- */

static void state_is_private(void)
{
    const char *const names[] = {LIBRARY("libplain.so"), LIBRARY("libplain_named.so")};
    for (int i = 0; i < 2; i++) {
        at_image_space *one = space_new(), *two = space_new();
        at_image *first = load(one, names[i]), *second = load(two, names[i]);
        CHECK(first != second && load(one, names[i]) == first);
        CHECK(call(first, "plain_bump") == 101 && call(first, "plain_bump") == 102);
        CHECK(call(second, "plain_bump") == 101);
        /* The state of what it needs, too. */
        CHECK(call(first, "plain_state_bump") == 1);
        CHECK(call(first, "plain_state_bump") == 2);
        CHECK(call(second, "plain_state_bump") == 1);
        CHECK(call(first, "plain_thread_bump") == 8);
        CHECK(call(second, "plain_thread_bump") == 8);
        ((void (*)(void))symbol(first, "plain_spoil_data"))();
        CHECK(call(first, "plain_data_is_new") == 0);
        CHECK(call(second, "plain_data_is_new") == 1);
        at_image_space_end(one, AT_IMAGE_UNMAP);
        at_image_space_end(two, AT_IMAGE_UNMAP);
    }
}

static void original_is_left_alone(void)
{
    at_image_space *space = space_new();
    at_image *image = load(space, LIBRARY("libplain_named.so"));
    CHECK(call(image, "plain_state_bump") == 1);
    void *original = dlopen(LIBRARY("libplain_named.so"), RTLD_NOW | RTLD_LOCAL);
    CHECK(original != NULL);
    int (*bump)(void) = (int (*)(void))dlsym(original, "plain_state_bump");
    CHECK(bump != NULL && bump != symbol(image, "plain_state_bump"));
    CHECK(bump() == 1);
    pid_t (*plain_call)(void) = (pid_t(*)(void))dlsym(original, "plain_call");
    CHECK(plain_call() == getppid());
    CHECK(dlclose(original) == 0);
    at_image_space_end(space, AT_IMAGE_UNMAP);
}

static void constructors_run_once(void)
{
    at_image_space *space = space_new();
    at_image *image = load(space, LIBRARY("libplain.so"));
    CHECK(call(image, "plain_constructions") == 1);
    CHECK(call(image, "plain_initialised") == 1);
    (void)load(space, LIBRARY("libplain.so"));
    CHECK(call(image, "plain_constructions") == 1);
    int destructions = 0;
    *(int **)symbol(image, "plain_destructions") = &destructions;
    at_image_space_end(space, AT_IMAGE_UNMAP);
    CHECK(destructions == 1);
}

static void references_are_hooked(void)
{
    at_image_space *space = space_new();
    const char *const names[] = {LIBRARY("libplain.so"), LIBRARY("libplain_named.so")};
    for (int i = 0; i < 2; i++) {
        at_image *image = load(space, names[i]);
        CHECK(call(image, "plain_call") == 4242);
        CHECK(call(image, "plain_call_table") == 4242);
        CHECK(call(image, "plain_call_address") == 4242);
    }
    at_image_space_end(space, AT_IMAGE_UNMAP);
}

/* The path behind the mapping that holds an address; false if there is none. */
static int mapping_of(const void *address, char *path, char *access)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    char line[4600];
    int found = 0;
    while (!found && fgets(line, sizeof line, maps) != NULL) {
        unsigned long start, end;
        path[0] = '\0';
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %4095[^\n]", &start, &end, access,
                   path) >= 3 &&
            (unsigned long)address >= start && (unsigned long)address < end) {
            found = 1;
        }
    }
    (void)fclose(maps);
    return found;
}

static const char MARK[] = "atoll: from an image";

/* Is what was marked still there? The address alone says little: whoever maps memory
 * next (a sanitizer does so all the time) may be given it. */
static int still_there(const void *marked)
{
    char path[4096], access[8];
    return mapping_of(marked, path, access) && access[0] == 'r' &&
           memcmp(marked, MARK, sizeof MARK) == 0;
}

static void text_is_shared(void)
{
    const at_image_stats before = at_image_get_stats();
    at_image_space *space = space_new();
    at_image *image = load(space, LIBRARY("libplain.so"));
    char path[4096], access[8];
    CHECK(mapping_of(symbol(image, "plain_bump"), path, access));
    CHECK(strcmp(path, LIBRARY("libplain.so")) == 0 && strcmp(access, "r-xp") == 0);
    CHECK(mapping_of(symbol(image, "plain_destructions"), path, access));
    CHECK(access[1] == 'w');
    Dl_info info;
    CHECK(dladdr(symbol(image, "plain_bump"), &info) != 0);
    CHECK(strcmp(info.dli_fname, TEST_LIBRARIES "/./libplain.so") == 0);
    const at_image_stats after = at_image_get_stats();
    CHECK(after.loaded_count == before.loaded_count + 2); /* with libstate.so */
    CHECK(after.bytes_shared > before.bytes_shared);
    CHECK(after.bytes_copied > before.bytes_copied);
    at_image_space_end(space, AT_IMAGE_UNMAP);
    CHECK(!mapping_of(info.dli_saddr, path, access) ||
          strcmp(path, LIBRARY("libplain.so")) != 0);
    CHECK(at_image_get_stats().unmapped_count == before.unmapped_count + 2);
}

static void unique_symbols_belong_to_a_space(void)
{
    at_image_space *spaces[2] = {space_new(), space_new()};
    int *addresses[2];
    for (int i = 0; i < 2; i++) {
        at_image *one = load(spaces[i], LIBRARY("libunique_one.so"));
        at_image *two = load(spaces[i], LIBRARY("libunique_two.so"));
        addresses[i] = ((int *(*)(void))symbol(one, "one_address"))();
        CHECK(((int *(*)(void))symbol(two, "two_address"))() == addresses[i]);
        CHECK(*addresses[i] == 5);
    }
    CHECK(addresses[0] != addresses[1]);
    at_image_space_end(spaces[0], AT_IMAGE_UNMAP);
    at_image_space_end(spaces[1], AT_IMAGE_UNMAP);
}

static void libraries_in_a_circle(void)
{
    at_image_space *one = space_new(), *two = space_new();
    at_image *a = load(one, LIBRARY("libring_a.so"));
    CHECK(call(a, "ring_a") == 1 && call(a, "ring_a_through_b") == 1002);
    CHECK(call(load(two, LIBRARY("libring_b.so")), "ring_b") == 1001);
    CHECK(call(load(two, LIBRARY("libring_a.so")), "ring_a") == 2);
    at_image_space_end(one, AT_IMAGE_UNMAP);
    at_image_space_end(two, AT_IMAGE_UNMAP);
}

/* libsilent.so uses libstate.so without naming it; what needs both names both. */
static void a_need_that_is_not_named(void)
{
    at_image_space *one = space_new(), *two = space_new();
    at_image *user = load(one, LIBRARY("libsilent_user.so"));
    at_image *other = load(two, LIBRARY("libsilent_user.so"));
    CHECK(call(user, "silent_user_bump") == 1);
    CHECK(call(user, "silent_user_bump_silently") == 2);
    CHECK(call(user, "silent_user_state") == 2);
    CHECK(call(other, "silent_user_bump_silently") == 1);
    CHECK(call(other, "silent_user_state") == 1);
    at_image_space_end(one, AT_IMAGE_UNMAP);
    at_image_space_end(two, AT_IMAGE_UNMAP);
}

/* A function that is nowhere to be found matters when it is called, or at once. */
static void binding_is_what_was_asked_for(void)
{
    at_image_space *space = space_new();
    at_image *image;
    at_fault fault;
    CHECK(at_image_load(space, LIBRARY("libsilent.so"), RTLD_NOW, &image, &fault) < 0);
    CHECK(strstr(fault.text, "libsilent.so: undefined symbol: ") != NULL);
    CHECK(at_image_load(space, LIBRARY("libuser.so"), RTLD_NOW, &image, &fault) < 0);
    CHECK(at_image_load(space, LIBRARY("libuser.so"), RTLD_LAZY, &image, &fault) == 0);
    at_image_space_end(space, AT_IMAGE_UNMAP);
}

static void constructor_opens_itself(void)
{
    at_image_space *space = space_new();
    at_image *image = load(space, LIBRARY("libopener.so"));
    CHECK(call(image, "opener_constructions") == 1);
    void *itself = ((void *(*)(void))symbol(image, "opener_myself"))();
    CHECK(itself != NULL);
    CHECK(dlsym(itself, "opener_constructions") ==
          symbol(image, "opener_constructions"));
    at_image_space_end(space, AT_IMAGE_KEEP);
}

typedef void *(*open_function)(const char *name, int flags);

static void dlopen_reaches_the_image(void)
{
    at_image_space *space = space_new();
    at_image *image = load(space, LIBRARY("libopener.so"));
    open_function open_library = (open_function)symbol(image, "opener_open");
    /* Found by the RUNPATH of the library that calls, and private. */
    void *state = open_library("libstate.so", RTLD_NOW);
    CHECK(state != NULL);
    void *state_bump = dlsym(state, "state_bump");
    at_image *plain = load(space, LIBRARY("libplain.so"));
    CHECK(((int (*)(void))state_bump)() == 1 && call(plain, "plain_state_bump") == 2);
    void *plain_handle = open_library(LIBRARY("libplain.so"), RTLD_NOW);
    CHECK(dlsym(plain_handle, "plain_bump") == symbol(plain, "plain_bump"));
    CHECK(dlclose(plain_handle) == 0 && call(plain, "plain_bump") == 101);
    /* The system's own are the process's. */
    void *libm = open_library("libm.so.6", RTLD_NOW),
         *real = dlopen("libm.so.6", RTLD_NOW);
    CHECK(libm != NULL && libm == real);
    void *program = open_library(NULL, RTLD_NOW);
    CHECK(program != NULL && program == dlopen(NULL, RTLD_NOW));
    CHECK(open_library("libnowhere.so.9", RTLD_NOW) == NULL);
    const char *reason = dlerror();
    CHECK(reason != NULL && strstr(reason, "libnowhere.so.9") != NULL);
    CHECK(open_library(LIBRARY("libunique_one.so"), RTLD_NOW | RTLD_NOLOAD) == NULL);
    CHECK(dlerror() != NULL);
    CHECK(dlclose(state) == 0);
    at_image_space_end(space, AT_IMAGE_UNMAP);
}

static void global_images_are_seen(void)
{
    at_image_space *space = space_new();
    at_image *plain, *user;
    at_fault fault;
    CHECK(at_image_load(space, LIBRARY("libuser.so"), RTLD_NOW, &user, &fault) < 0);
    CHECK(strstr(fault.text, "libuser.so") != NULL);
    CHECK(strstr(fault.text, "plain_bump") != NULL);
    CHECK(at_image_load(space, LIBRARY("libplain.so"), RTLD_NOW | RTLD_GLOBAL, &plain,
                        &fault) == 0);
    user = load(space, LIBRARY("libuser.so"));
    CHECK(call(plain, "plain_bump") == 101 && call(user, "user_bump") == 102);
    at_image_space_end(space, AT_IMAGE_UNMAP);
}

static void threads_are_noticed(void)
{
    const char *const starters[] = {"threads_by_pthread", "threads_by_cpp",
                                    "threads_stay"};
    for (int i = 0; i < 3; i++) {
        at_image_space *space = space_new();
        at_image *image = load(space, LIBRARY("libthreads.so"));
        CHECK(!at_image_space_has_threads(space));
        CHECK(call(image, starters[i]) == 0);
        CHECK(at_image_space_has_threads(space) == (i == 2)); /* the others ended */
        const size_t unmapped = at_image_get_stats().unmapped_count;
        CHECK(at_image_space_end(space, AT_IMAGE_UNMAP));
        CHECK(at_image_get_stats().unmapped_count == unmapped + 1);
    }
}

static void image_stays_under_a_cpp_thread(void)
{
    int exits = 0;
    at_image_space *space = space_new();
    at_image *image = load(space, LIBRARY("libthreads.so"));
    ((void (*)(int *))symbol(image, "threads_count_exit"))(&exits);
    CHECK(call(image, "threads_cpp_waits") == 0);
    CHECK(at_image_space_has_threads(space));
    CHECK(!at_image_space_end(space, AT_IMAGE_UNMAP));
    CHECK(exits == 0); /* the thread may need what the functions put away */
    CHECK(call(image, "threads_cpp_goes_on") == 0);
}

static void exit_functions_run_at_the_end(void)
{
    const at_image_fate fates[] = {AT_IMAGE_KEEP, AT_IMAGE_UNMAP};
    for (int i = 0; i < 2; i++) {
        int exits = 0;
        at_image_space *space = space_new();
        at_image *image = load(space, LIBRARY("libthreads.so"));
        ((void (*)(int *))symbol(image, "threads_count_exit"))(&exits);
        ((void (*)(void))symbol(image, "threads_make_static"))();
        CHECK(at_image_space_end(space, fates[i]) == (fates[i] != AT_IMAGE_KEEP));
        CHECK(exits == (fates[i] != AT_IMAGE_KEEP)); /* 0 * 10 + 1: the last first */
    }
}

static void jemalloc_starts_no_thread(void)
{
    CHECK(setenv("ATOLL_TEST_SET_MALLOC_CONF", "narenas:1", 1) == 0);
    at_image_space *space = space_new();
    at_image *image = load(space, LIBRARY("libthreads.so"));
    CHECK(call(image, "threads_jemalloc_is_asked") == 1);
    CHECK(at_image_space_end(space, AT_IMAGE_UNMAP));
}

/* Before an image has mapped anything: there is no list of mappings, and none can be
 * made. */
static void unmapping_without_memory(void)
{
    at_image_space *space = space_new();
    at_image *image = load(space, LIBRARY("libholder.so"));
    int (*unmap)(void *) = (int (*)(void *))symbol(image, "holder_unmap");
    void *mapped = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mapped != MAP_FAILED);
    (void)at_memory_fail_after(0);
    CHECK(unmap(mapped) == 0);
    CHECK(at_memory_fail_after(-1) == 1);
    CHECK(at_image_space_end(space, AT_IMAGE_UNMAP));
}

static void mappings_go_with_the_image(void)
{
    char path[4096], access[8];
    at_image_space *kept = space_new(), *space = space_new();
    at_image *other = load(kept, LIBRARY("libholder.so"));
    void *others = ((void *(*)(void))symbol(other, "holder_map"))();
    at_image *image = load(space, LIBRARY("libholder.so"));
    void *(*map)(void) = (void *(*)(void))symbol(image, "holder_map");
    void *mapped = map(), *given_back = map();
    char *grown = ((void *(*)(void))symbol(image, "holder_map_aligned"))();
    CHECK(others != NULL && mapped != NULL && given_back != NULL && grown != NULL);
    int (*unmap)(void *) = (int (*)(void *))symbol(image, "holder_unmap");
    CHECK(unmap(given_back) == 0);
    /* Whoever has the address now keeps it. */
    const size_t chunk_bytes = 1 << 20;
    CHECK(mmap(given_back, chunk_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
               0) == given_back);
    char *end_of_grown = grown + 2 * chunk_bytes - sizeof MARK;
    void *marked[] = {mapped, grown, end_of_grown, others};
    for (int i = 0; i < 4; i++) {
        memcpy(marked[i], MARK, sizeof MARK);
        CHECK(still_there(marked[i]));
    }
    CHECK(at_image_space_end(space, AT_IMAGE_UNMAP));
    CHECK(!still_there(mapped) && !still_there(grown) && !still_there(end_of_grown));
    CHECK(mapping_of(given_back, path, access) && still_there(others));
    CHECK(munmap(given_back, chunk_bytes) == 0);
    CHECK(!at_image_space_end(kept, AT_IMAGE_KEEP));
    CHECK(still_there(others)); /* a thread may use it */
}

/* There are 1,024 for the process. */
static void thread_keys_go_with_the_image(void)
{
    pthread_key_t key = 0;
    for (int i = 0; i < 1200; i++) {
        at_image_space *space = space_new();
        at_image *image = load(space, LIBRARY("libholder.so"));
        CHECK(call(image, "holder_create_keys") == 0);
        if (i % 100 == 0) { /* deleted by the image, and somebody else's by now */
            CHECK(call(image, "holder_delete_key") == 0);
            CHECK(pthread_key_create(&key, NULL) == 0);
        }
        CHECK(at_image_space_end(space, AT_IMAGE_UNMAP));
        CHECK(i % 100 != 0 || pthread_setspecific(key, &key) == 0);
    }
}

static void image_stays_where_the_process_calls_it(void)
{
    at_image_space *handles = space_new(), *pinned = space_new(), *quiet = space_new();
    at_image *image = load(handles, LIBRARY("libholder.so"));
    CHECK(call(image, "holder_handle_signal") == 0);
    CHECK(!at_image_space_end(handles, AT_IMAGE_UNMAP));
    CHECK(raise(SIGUSR2) == 0);
    image = load(pinned, LIBRARY("libholder.so"));
    CHECK(at_image_pin(symbol(image, "holder_map")) && !at_image_pin(&quiet));
    CHECK(!at_image_space_end(pinned, AT_IMAGE_UNMAP));
    CHECK(call(image, "holder_ignore_signal") == 0); /* still there */
    image = load(quiet, LIBRARY("libholder.so"));
    CHECK(call(image, "holder_handle_signal") == 0);
    CHECK(call(image, "holder_ignore_signal") == 0);
    CHECK(at_image_space_end(quiet, AT_IMAGE_UNMAP));
}

static void environment_outlives_the_image(void)
{
    at_image_space *space = space_new();
    at_image *image = load(space, LIBRARY("libholder.so"));
    CHECK(call(image, "holder_put_environment") == 0);
    CHECK(at_image_space_end(space, AT_IMAGE_UNMAP));
    const char *value = getenv("ATOLL_TEST_HOLDER");
    CHECK(value != NULL && strcmp(value, "put") == 0);
}

static void policy_is_fixed_once_used(void)
{
    CHECK(at_image_set_policy("libfoo", NULL) == AT_EBUSY);
}

/* ---- many at once -------------------------------------------------------------- */

enum { THREADS = 4, LOADS = 50 };
static atomic_int next_load;

static void *load_many(void *argument)
{
    (void)argument;
    for (int i = atomic_fetch_add(&next_load, 1); i < LOADS;
         i = atomic_fetch_add(&next_load, 1)) {
        at_image_space *space = space_new();
        CHECK(call(load(space, LIBRARY("libplain.so")), "plain_bump") == 101);
        CHECK(call(load(space, LIBRARY("libring_a.so")), "ring_a") == 1);
        CHECK(call(load(space, LIBRARY("libopener.so")), "opener_constructions") == 1);
        at_image_space_end(space, AT_IMAGE_UNMAP);
    }
    return NULL;
}

static void loads_from_many_threads(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, load_many, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

static at_image_space *common_space;

static void *load_in_common(void *argument)
{
    *(at_image **)argument = load(common_space, LIBRARY("libplain.so"));
    CHECK(call(*(at_image **)argument, "plain_constructions") == 1);
    return NULL;
}

static void one_image_for_many_threads(void)
{
    for (int round = 0; round < 10; round++) {
        common_space = space_new();
        pthread_t threads[THREADS];
        at_image *images[THREADS];
        for (int i = 0; i < THREADS; i++) {
            CHECK(pthread_create(&threads[i], NULL, load_in_common, &images[i]) == 0);
        }
        for (int i = 0; i < THREADS; i++) {
            CHECK(pthread_join(threads[i], NULL) == 0);
            CHECK(images[i] == images[0]);
        }
        at_image_space_end(common_space, AT_IMAGE_UNMAP);
    }
}

/* ---- failures ------------------------------------------------------------------ */

static int load_failing(void)
{
    at_image_space *space;
    int result = at_image_space_new(1, &hooks, &space);
    if (result < 0) {
        return result;
    }
    at_fault fault;
    at_image *image;
    dlopen_space = space;
    result =
        at_image_load(space, LIBRARY("libplain_named.so"), RTLD_NOW, &image, &fault);
    CHECK(result == 0 || result == AT_ENOMEM);
    if (result == 0) {
        result =
            at_image_load(space, LIBRARY("libunique_one.so"), RTLD_NOW, &image, &fault);
    }
    if (result == 0) {
        result =
            at_image_load(space, LIBRARY("libunique_two.so"), RTLD_NOW, &image, &fault);
    }
    at_image_space_end(space, AT_IMAGE_UNMAP);
    return result;
}

static void faults_name_the_file(void)
{
    at_image_space *space = space_new();
    const at_image_stats before = at_image_get_stats();
    at_image *image;
    at_fault fault;
    CHECK(at_image_load(space, "/nowhere/lib.so", RTLD_NOW, &image, &fault) ==
          AT_ENOTFOUND);
    CHECK(strstr(fault.text, "/nowhere/lib.so") != NULL);
    CHECK(at_image_load(space, "/etc/passwd", RTLD_NOW, &image, &fault) == AT_EFORMAT);
    CHECK(strstr(fault.text, "/etc/passwd") != NULL);
    CHECK(at_image_load(space, "/proc/self/exe", RTLD_NOW, &image, &fault) < 0);
    CHECK(at_image_get_stats().loaded_count == before.loaded_count);
    at_image_space_end(space, AT_IMAGE_UNMAP);
}

/* Last, because the C library may not get the room back. */
static void static_tls_runs_out(void)
{
    enum { SPACES = 64 };
    at_image_space *spaces[SPACES];
    at_fault fault = {.text = ""};
    int count = 0, result = 0;
    while (count < SPACES && result == 0) {
        at_image *image;
        spaces[count] = space_new();
        result = at_image_load(spaces[count], LIBRARY("libstatic_tls.so"), RTLD_NOW,
                               &image, &fault);
        CHECK(result < 0 || call(image, "static_tls_first") == '!');
        count++;
    }
    /* 64 times 600 bytes are more than any C library has to spare, unless told. */
    if (getenv("GLIBC_TUNABLES") == NULL) {
        CHECK(result == AT_EUNSUPPORTED && count > 1);
        CHECK(strstr(fault.text, "libstatic_tls.so") != NULL);
        CHECK(strstr(fault.text, "glibc.rtld.optional_static_tls") != NULL);
    }
    while (count-- > 0) {
        at_image_space_end(spaces[count], AT_IMAGE_UNMAP);
    }
}

int main(void)
{
    RUN(unmapping_without_memory);
    RUN(state_is_private);
    RUN(original_is_left_alone);
    RUN(constructors_run_once);
    RUN(references_are_hooked);
    RUN(text_is_shared);
    RUN(unique_symbols_belong_to_a_space);
    RUN(libraries_in_a_circle);
    RUN(a_need_that_is_not_named);
    RUN(binding_is_what_was_asked_for);
    RUN(constructor_opens_itself);
    RUN(dlopen_reaches_the_image);
    RUN(global_images_are_seen);
    RUN(threads_are_noticed);
    RUN(image_stays_under_a_cpp_thread);
    RUN(exit_functions_run_at_the_end);
    RUN(jemalloc_starts_no_thread);
    RUN(mappings_go_with_the_image);
    RUN(thread_keys_go_with_the_image);
    RUN(image_stays_where_the_process_calls_it);
    RUN(environment_outlives_the_image);
    RUN(policy_is_fixed_once_used);
    RUN(loads_from_many_threads);
    RUN(one_image_for_many_threads);
    RUN(faults_name_the_file);
    RUN_FAILING(load_failing);
    RUN(static_tls_runs_out);
    return 0;
}
