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
