/* Dictionaries between processes: what they do, and what becomes of them when those who
 * write are killed, at each store and at any moment.
 *
 * The other processes are forks, which begin as the kernel makes them and end by
 * SIGKILL; a thread sanitizer cannot follow them, and leaves them out. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "chan/common_dict.h"
#include "chan/message.h"
#include "chan/sync.h"
#include "check.h"
#include "sys/clock.h"
#include "sys/guardian.h"
#include "sys/thread.h"

#if !defined(__has_feature)
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define HAS_FORKS 0
#else
#define HAS_FORKS 1
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
enum { KILLS = 500 }; /* where a fork takes ten times as long */
#else
enum { KILLS = 2000 };
#endif

enum { KEYS = 8, LONGEST = 1500, BYTES = 64 << 10 };

static const at_origin here = {.shared_as = "test"};

static at_common_dict *make(size_t size_bytes)
{
    at_common_dict *dict;
    at_fault fault;
    CHECK(at_common_dict_new(size_bytes, &here, &dict, &fault) == 0);
    CHECK(at_place_publish((at_placed *)dict) == (at_shared *)dict);
    return dict;
}

static void unref(at_common_dict *dict)
{
    at_shared_unref((at_shared *)dict);
}

static const at_table *table_of(const at_common_dict *dict)
{
    return at_common_dict_table(dict);
}

static int ask(at_common_dict *dict, at_common_request *request)
{
    int result = at_common_dict_try(dict, request);
    if (result == AT_EAGAIN) {
        at_patience forever = {AT_NEVER, NULL};
        result = at_common_dict_run(dict, request, &forever);
    }
    return result;
}

/* ---- values that say what they are ------------------------------------------------
 *
 * A version, and as many bytes behind it as follows from it. */

static size_t size_of(uint64_t version)
{
    return sizeof version + (size_t)(version * 37 % (LONGEST - sizeof version));
}

static void write_value(char *value, uint64_t key, uint64_t version)
{
    memcpy(value, &version, sizeof version);
    memset(value + sizeof version, (int)(key * 64 + version),
           size_of(version) - sizeof version);
}

/* `key` to `version`. */
static int put(at_common_dict *dict, uint64_t key, uint64_t version)
{
    char value[LONGEST];
    write_value(value, key, version);
    at_dict_key named = {.data = &key, .size_bytes = sizeof key};
    at_common_request request = {.kind = AT_COMMON_PUT,
                                 .key = &named,
                                 .data = value,
                                 .size_bytes = size_of(version)};
    return ask(dict, &request);
}

/* The version under `key`, or 0: what is read is one that was written, as a whole. */
static uint64_t get(at_common_dict *dict, uint64_t key)
{
    at_dict_key named = {.data = &key, .size_bytes = sizeof key};
    at_common_request request = {.kind = AT_COMMON_GET, .key = &named};
    int result = ask(dict, &request);
    CHECK(result == 0 || result == 1);
    if (result == 0) {
        CHECK(request.entry == NULL);
        return 0;
    }
    const at_message *message = request.entry->item;
    uint64_t version;
    char wanted[LONGEST];
    CHECK(message->size_bytes >= sizeof version);
    memcpy(&version, message->data, sizeof version);
    write_value(wanted, key, version);
    CHECK(message->size_bytes == size_of(version) &&
          memcmp(message->data, wanted, size_of(version)) == 0);
    CHECK(request.entry->version != 0 &&
          memcmp(request.entry->key.data, &key, sizeof key) == 0);
    at_shared_unref(&request.entry->shared);
    return version;
}

static int take(at_common_dict *dict, uint64_t key)
{
    at_dict_key named = {.data = &key, .size_bytes = sizeof key};
    at_common_request request = {.kind = AT_COMMON_REMOVE, .key = &named};
    return ask(dict, &request);
}

static size_t count_keys(at_common_dict *dict)
{
    size_t count = 0;
    at_common_request request = {.kind = AT_COMMON_KEYS};
    for (;; request.bucket++) {
        CHECK(ask(dict, &request) == 0);
        if (request.entry_count == 0) {
            return count;
        }
        for (size_t i = 0; i < request.entry_count; i++) {
            CHECK(request.entries[i]->key.size_bytes == sizeof(uint64_t));
            at_shared_unref(&request.entries[i]->shared);
        }
        count += request.entry_count;
        at_free((void *)request.entries);
    }
}

/* ---- in one process -------------------------------------------------------------- */

static int makes_and_frees(void)
{
    at_common_dict *dict;
    at_fault fault;
    int result = at_common_dict_new(BYTES, &here, &dict, &fault);
    if (result < 0) {
        return result;
    }
    uint64_t key = 3;
    char value[LONGEST];
    write_value(value, key, 30);
    at_dict_key named = {.data = &key, .size_bytes = sizeof key};
    at_common_request request = {
        .kind = AT_COMMON_PUT, .key = &named, .data = value, .size_bytes = size_of(30)};
    CHECK(ask(dict, &request) == 1); /* it allocates nothing */
    request.kind = AT_COMMON_GET;
    result = ask(dict, &request);
    if (result == 1) {
        at_shared_unref(&request.entry->shared);
        request = (at_common_request){.kind = AT_COMMON_KEYS};
        result = ask(dict, &request);
    }
    if (result == 0) {
        CHECK(request.entry_count == 1);
        at_shared_unref(&request.entries[0]->shared);
        at_free((void *)request.entries);
    }
    unref(dict);
    return result;
}

static void as_a_dict(void)
{
    at_common_dict *dict = make(BYTES);
    CHECK(get(dict, 1) == 0 && take(dict, 1) == 0 && count_keys(dict) == 0);
    for (uint64_t key = 0; key < KEYS; key++) {
        CHECK(put(dict, key, key + 1) == 1);
    }
    CHECK(count_keys(dict) == KEYS && at_table_count(table_of(dict)) == KEYS);
    CHECK(get(dict, 3) == 4 && put(dict, 3, 9) == 1 && get(dict, 3) == 9);
    CHECK(take(dict, 3) == 1 && get(dict, 3) == 0 && take(dict, 3) == 0);
    at_common_request request = {.kind = AT_COMMON_CLEAR};
    CHECK(ask(dict, &request) == 0 && count_keys(dict) == 0);
    CHECK(at_table_check(table_of(dict)));
    unref(dict);
}

/* What was read is replaced only while it is still there. */
static void versions(void)
{
    at_common_dict *dict = make(BYTES);
    uint64_t key = 1;
    at_dict_key named = {.data = &key, .size_bytes = sizeof key};
    CHECK(put(dict, key, 5) == 1);
    at_common_request found = {.kind = AT_COMMON_GET, .key = &named};
    CHECK(ask(dict, &found) == 1);
    at_common_request swap = {.kind = AT_COMMON_PUT,
                              .rule = AT_TABLE_IF_SAME,
                              .key = &named,
                              .data = "short",
                              .size_bytes = 5,
                              .expected = found.entry->version};
    CHECK(put(dict, key, 5) == 1); /* the same bytes, and another entry */
    CHECK(ask(dict, &swap) == 0 && get(dict, key) == 5);
    at_shared_unref(&found.entry->shared);
    CHECK(ask(dict, &found) == 1);
    swap.expected = found.entry->version;
    CHECK(ask(dict, &swap) == 1 && ask(dict, &swap) == 0);
    at_shared_unref(&found.entry->shared);
    unref(dict);
}

static void descriptors(void)
{
    at_common_dict *dict = make(BYTES);
    CHECK(put(dict, 1, 7) == 1);
    int descriptor = ((at_placed *)dict)->place.page.memory.descriptor;
    at_fault fault;
    at_shared *again;
    CHECK(at_sync_adopt(dup(descriptor), NULL, &again, &fault) == 0);
    CHECK(again == (at_shared *)dict); /* one thing, however often it comes in */
    at_shared_unref(again);
    /* Its memory, looked at as by another process: whole, and with a damaged head. */
    unsigned char *head = at_place_words_of(&((at_placed *)dict)->place.page);
    for (size_t i = 0; i < 2; i++) {
        int copy = memfd_create("copy", MFD_ALLOW_SEALING);
        size_t bytes = at_common_dict_bytes(dict);
        head[64 + 20] ^= (unsigned char)i; /* of the seed */
        CHECK(write(copy, (char *)head - 64, bytes) == (ssize_t)bytes);
        CHECK(fcntl(copy, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
        int result = at_sync_adopt(copy, NULL, &again, &fault);
        CHECK(result == (i == 0 ? 0 : AT_EINVALID));
        if (result == 0) {
            CHECK(again != (at_shared *)dict);
            CHECK(get((at_common_dict *)again, 1) == 7);
            at_shared_unref(again);
        } else {
            CHECK(close(copy) == 0); /* it stayed ours */
        }
    }
    head[64 + 20] ^= 1;
    unref(dict);
}

/* A lock word that no process has is told, and not waited for. */
static void nobodys_lock(void)
{
    at_common_dict *dict = make(BYTES);
    CHECK(put(dict, 1, 7) == 1);
    atomic_uint *word = ((at_placed *)dict)->place.words;
    atomic_store(word, AT_WORD_HOLDER - 1);
    CHECK(put(dict, 1, 8) == AT_EBUSY && take(dict, 1) == AT_EBUSY);
    CHECK(get(dict, 1) == 7); /* who reads does not need it */
    atomic_store(word, 0);
    CHECK(put(dict, 1, 8) == 1 && get(dict, 1) == 8);
    unref(dict);
}

/* ---- writers, readers, and one that clears: threads ------------------------------ */

enum { THREADS = 4, ROUNDS = 3000 };

typedef struct race {
    at_common_dict *dict;
    atomic_uint_fast64_t version;
} race;

static void change_and_read(void *context)
{
    race *running = context;
    for (size_t i = 0; i < ROUNDS; i++) {
        uint64_t version = atomic_fetch_add(&running->version, 1) + 1;
        CHECK(put(running->dict, version % KEYS, version) == 1);
        (void)get(running->dict, i % KEYS);
        if (i % 50 == 0) {
            (void)take(running->dict, i % KEYS);
            CHECK(count_keys(running->dict) <= KEYS);
        }
        if (i % 500 == 0) {
            at_common_request clear = {.kind = AT_COMMON_CLEAR};
            CHECK(ask(running->dict, &clear) == 0);
        }
    }
}

static void threads(void)
{
    race running = {.dict = make(BYTES)};
    at_thread all[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(at_thread_start(&all[i], "changer", change_and_read, &running, NULL) ==
              0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        at_thread_join(&all[i]);
    }
    CHECK(at_table_check(table_of(running.dict)));
    unref(running.dict);
}

#if HAS_FORKS

/* ---- killed at each store -------------------------------------------------------- */

static long stores_left;

static void kill_at_store(void)
{
    if (stores_left-- == 0) {
        (void)kill(getpid(), SIGKILL);
    }
}

typedef enum doing { SET_NEW, REPLACE, TAKE_OUT, CLEAR } doing;

static int act(at_common_dict *dict, doing what)
{
    switch (what) {
    case SET_NEW:
        return put(dict, 5, 500);
    case REPLACE:
        return put(dict, 2, 900);
    case TAKE_OUT:
        return take(dict, 2);
    default: {
        at_common_request request = {.kind = AT_COMMON_CLEAR};
        return ask(dict, &request) == 0;
    }
    }
}

/* A process does it and is killed at store `most`: whether it came to that. */
static bool killed_at(at_common_dict *dict, doing what, long most)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        stores_left = most;
        at_table_on_store(kill_at_store);
        _exit(act(dict, what) == 1 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return WIFSIGNALED(status);
}

static void killed_at_each_store(void)
{
    for (doing what = SET_NEW; what <= TAKE_OUT; what++) {
        bool killed = true;
        long most = 0;
        for (; killed; most++) {
            at_common_dict *dict = make(BYTES);
            for (uint64_t key = 0; key < 4; key++) {
                CHECK(put(dict, key, key + 10) == 1);
            }
            killed = killed_at(dict, what, most);
            uint64_t key = what == SET_NEW ? 5 : 2;
            uint64_t before = what == SET_NEW ? 0 : 12;
            uint64_t after = what == SET_NEW ? 500 : what == REPLACE ? 900 : 0;
            uint64_t found = get(dict, key); /* without the lock */
            CHECK(found == before || found == after);
            CHECK(killed || found == after);
            CHECK(put(dict, 1, 77) == 1); /* which makes it whole first */
            CHECK(get(dict, key) == found && at_table_check(table_of(dict)));
            CHECK(at_table_count(table_of(dict)) ==
                  4 + (size_t)(found != 0) - (size_t)(before != 0));
            CHECK(get(dict, 0) == 10 && get(dict, 3) == 13);
            unref(dict);
        }
        CHECK(most > 5);
        (void)printf("   %ld stores\n", most - 1);
    }
}

enum { LARGE_BYTES = 4 << 20, MUCH_BYTES = 1 << 20 };

/* Once it held much, so that its pages are given back. */
static at_common_dict *make_large(void)
{
    at_common_dict *dict = make(LARGE_BYTES);
    char *value = at_calloc(1, MUCH_BYTES);
    at_dict_key named = {.data = "much", .size_bytes = 4};
    at_common_request request = {
        .kind = AT_COMMON_PUT, .key = &named, .data = value, .size_bytes = MUCH_BYTES};
    CHECK(ask(dict, &request) == 1);
    request.kind = AT_COMMON_REMOVE;
    CHECK(ask(dict, &request) == 1);
    at_free(value);
    return dict;
}

/* In memory of the kernel's, where each key is there or gone, and all can be set. */
static void killed_while_it_clears(void)
{
    bool killed = true;
    long most = 0;
    for (; killed; most++) {
        at_common_dict *dict = make_large();
        for (uint64_t key = 0; key < KEYS; key++) {
            CHECK(put(dict, key, key + 10) == 1);
        }
        killed = killed_at(dict, CLEAR, most);
        size_t there = 0;
        for (uint64_t key = 0; key < KEYS; key++) {
            uint64_t found = get(dict, key);
            CHECK(found == 0 || (killed && found == key + 10));
            there += found != 0;
        }
        CHECK(put(dict, KEYS, 77) == 1); /* which makes it whole first */
        CHECK(at_table_count(table_of(dict)) == there + 1);
        CHECK(count_keys(dict) == there + 1 && at_table_check(table_of(dict)));
        unref(dict);
    }
    CHECK(most > KEYS);
    (void)printf("   %ld stores\n", most - 1);
}

/* ---- killed at any moment -------------------------------------------------------- */

/* What a writer says of itself, where the parent sees it. */
typedef struct diary {
    atomic_uint_fast64_t begun[KEYS];
    atomic_uint_fast64_t done[KEYS];
    atomic_bool over;
} diary;

enum { SPINS = 40000 };

static void write_for_ever(at_common_dict *dict, diary *diary, uint64_t turn)
{
    for (uint64_t i = turn;; i++) {
        uint64_t key = i % KEYS;
        uint64_t next = atomic_load(&diary->done[key]) + 1 + i % 3;
        atomic_store(&diary->begun[key], next);
        if (put(dict, key, next) != 1) {
            _exit(1);
        }
        atomic_store(&diary->done[key], next);
    }
}

static uint64_t progress(diary *diary)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < KEYS; i++) {
        sum += atomic_load(&diary->done[i]);
    }
    return sum;
}

static void settle(at_common_dict *dict, diary *diary)
{
    for (uint64_t key = 0; key < KEYS; key++) {
        uint64_t found = get(dict, key);
        CHECK(found == atomic_load(&diary->begun[key]) ||
              found == atomic_load(&diary->done[key]));
        atomic_store(&diary->begun[key], found);
        atomic_store(&diary->done[key], found);
    }
}

/* One reads all the time: from the living, the dying, and what is made whole. A process
 * and no thread: a fork beside a thread that allocates may find the allocator locked.
 */
static void read_on(at_common_dict *dict, diary *diary)
{
    while (!atomic_load(&diary->over)) {
        for (uint64_t key = 0; key < KEYS; key++) {
            (void)get(dict, key);
        }
        (void)sched_yield();
    }
    _exit(0);
}

static void await_progress(diary *diary, uint64_t before, pid_t child)
{
    while (progress(diary) == before) {
        int status;
        CHECK(waitpid(child, &status, WNOHANG) == 0);
        (void)sched_yield();
    }
}

/* A child that goes on for ever, and ends with this process however that ends. */
static pid_t fork_with_end(void)
{
    pid_t parent = getpid();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
        if (getppid() != parent) {
            _exit(1);
        }
    }
    return child;
}

static void killed_at_any_moment(void)
{
    diary *diary = mmap(NULL, sizeof *diary, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(diary != MAP_FAILED);
    at_common_dict *dict = make(BYTES);
    pid_t reader = fork_with_end();
    if (reader == 0) {
        read_on(dict, diary);
    }
    size_t died = 0;
    int status;
    for (uint64_t turn = 0; turn < KILLS; turn++) {
        uint64_t before = progress(diary);
        pid_t child = fork_with_end();
        if (child == 0) {
            write_for_ever(dict, diary, turn);
        }
        await_progress(diary, before, child);
        for (volatile uint64_t spin = turn * 7919 % SPINS; spin != 0; spin--) {
        }
        CHECK(kill(child, SIGKILL) == 0);
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        atomic_uint *word = ((at_placed *)dict)->place.words;
        died += (atomic_load(word) & AT_WORD_DIED) != 0;
        settle(dict, diary);
        CHECK(put(dict, 0, atomic_load(&diary->done[0])) == 1);
        if (turn % 16 == 0) {
            CHECK(at_table_check(table_of(dict)));
        }
    }
    atomic_store(&diary->over, true);
    CHECK(waitpid(reader, &status, 0) == reader && status == 0);
    CHECK(at_table_check(table_of(dict)));
    (void)printf("   %zu of %d died with the lock\n", died, KILLS);
    CHECK(died != 0);
    unref(dict);
    CHECK(munmap(diary, sizeof *diary) == 0);
}

#endif

int main(void)
{
    if (at_guardian_number() == 0) {
        return 77; /* robust futexes are missing, as in qemu's user mode */
    }
    RUN_FAILING(makes_and_frees);
    RUN(as_a_dict);
    RUN(versions);
    RUN(descriptors);
    RUN(nobodys_lock);
    RUN(threads);
#if HAS_FORKS
    RUN(killed_at_each_store);
    RUN(killed_while_it_clears);
    RUN(killed_at_any_moment);
#endif
    return 0;
}
