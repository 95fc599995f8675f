/* Requests that take too long, under WSGI: RequestTimeout is raised in their threads.
 *
 * It is raised between two bytecodes, and withdrawn when the application has returned,
 * so that it hits the request it was meant for or nothing: who raises it holds the GIL,
 * and sees `over`, which is set with the GIL held too.
 */
#include "serve/wsgi.h"
#include "sys/clock.h"

void at_wsgi_running_add(at_wsgi_worker *worker, at_wsgi_request *request)
{
    request->ident = PyThread_get_thread_ident();
    request->running_next = worker->running;
    worker->running = request;
}

void at_wsgi_running_remove(at_wsgi_worker *worker, at_wsgi_request *request)
{
    for (at_wsgi_request **at = &worker->running; *at != NULL;
         at = &(*at)->running_next) {
        if (*at == request) {
            *at = request->running_next;
            return;
        }
    }
}

void at_wsgi_over(at_wsgi_request *request)
{
    request->over = true;
    if (request->interrupted) {
        (void)PyThreadState_SetAsyncExc(request->ident, NULL);
    }
}

int at_wsgi_interrupt(at_wsgi_worker *worker, int64_t allowed_ns)
{
    int64_t now_ns = at_clock_ns();
    int count = 0;
    at_wsgi_sit(worker);
    for (at_wsgi_request *request = worker->running; request != NULL;
         request = request->running_next) {
        int64_t since_ns = request->late_ns != 0 ? request->late_ns : request->begun_ns;
        if (request->over || request->exchange->started ||
            now_ns - since_ns < allowed_ns) {
            continue;
        }
        request->late_ns = now_ns;
        request->interrupted = true;
        count += PyThreadState_SetAsyncExc(request->ident, worker->timeout_class);
    }
    at_wsgi_rise(worker);
    return count;
}
