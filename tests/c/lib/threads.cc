// Starts threads in the ways that libraries do, and asks for calls at the exit.
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <thread>

static void *nothing(void *argument)
{
    return argument;
}

extern "C" int threads_by_pthread()
{
    pthread_t thread;
    int result = pthread_create(&thread, nullptr, nothing, nullptr);
    return result != 0 ? result : pthread_join(thread, nullptr);
}

extern "C" int threads_by_cpp()
{
    int done = 0;
    std::thread thread([&done] { done = 1; });
    thread.join();
    return done == 1 ? 0 : 1;
}

// A std::thread that waits for its state to be told to go on, and nobody joins.
static pthread_mutex_t cpp_gate = PTHREAD_MUTEX_INITIALIZER;

extern "C" int threads_cpp_waits()
{
    pthread_mutex_lock(&cpp_gate);
    std::thread([] {
        pthread_mutex_lock(&cpp_gate);
        pthread_mutex_unlock(&cpp_gate);
    }).detach();
    return 0;
}

extern "C" int threads_cpp_goes_on()
{
    return pthread_mutex_unlock(&cpp_gate);
}

static int *exit_count;

extern "C" void threads_count_exit(int *count)
{
    exit_count = count;
    std::atexit([] { *exit_count += 1; });
    std::atexit([] { *exit_count *= 10; });
}

struct counted_static {
    ~counted_static() { *exit_count = -1; }
};

extern "C" void threads_make_static()
{
    static counted_static dropped;
    (void)dropped;
}

extern "C" int threads_jemalloc_is_asked()
{
    const char *unset = std::getenv("ATOLL_TEST_UNSET_MALLOC_CONF");
    const char *set = std::getenv("ATOLL_TEST_SET_MALLOC_CONF");
    return unset != nullptr && std::strcmp(unset, "background_thread:false") == 0 &&
           set != nullptr && std::strcmp(set, "narenas:1") == 0 &&
           std::getenv("ATOLL_TEST_UNSET") == nullptr;
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_t waiting;
static bool is_waiting;

static void *wait_for_gate(void *argument)
{
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return argument;
}

// A thread that lives until the library's destructor ends it, as OpenBLAS's do.
extern "C" int threads_stay()
{
    pthread_mutex_lock(&gate);
    int result = pthread_create(&waiting, nullptr, wait_for_gate, nullptr);
    is_waiting = result == 0;
    return result;
}

__attribute__((destructor)) static void end_threads()
{
    if (is_waiting) {
        pthread_mutex_unlock(&gate);
        pthread_join(waiting, nullptr);
    }
}
