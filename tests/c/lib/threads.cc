// Starts threads in the two ways that libraries do.
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
