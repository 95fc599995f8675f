/* Connections between the services of several processes; see service.h.
 *
 * A passage is one more listener: where a reactor has time, it takes the next
 * connection out of it. So a connection goes to whoever has time first, and no process
 * needs to know how busy another is. What goes in: connections at rest of a process
 * that leaves while others go on, and those for which something waits at a process
 * whose reactors are all busy. TLS stays where its keys are.
 */
#include "sys/passage.h"
#include "base/memory.h"
#include "net/service_internal.h"
#include "sys/stream.h"

/* How a connection is described to another process, which runs the same code. */
typedef struct at_passage_note {
    uint64_t requests;
    bool moved, local_known;
    at_address peer, local;
} at_passage_note;

int at_service_join_passage(at_service *service, int receiving, int sending,
                            at_fault *fault)
{
    int in = at_passage_adopt(receiving, fault);
    if (in < 0) {
        return in;
    }
    int out = at_passage_adopt(sending, fault);
    if (out < 0) {
        at_socket_close(in);
        return out;
    }
    if (service->listener_count == AT_LISTENERS_MAX) {
        at_socket_close(in);
        at_socket_close(out);
        return at_fault_set(fault, AT_ELIMIT, "a service has at most %d sockets",
                            (int)AT_LISTENERS_MAX);
    }
    service->listeners[service->listener_count++] = in;
    service->passage_in = in;
    service->passage_out = out;
    return 0;
}

bool at_service_is_passage(const at_service *service, int listener)
{
    return service->passage_out >= 0 && listener == service->passage_in;
}

bool at_service_has_passage(const at_service *service)
{
    return service->passage_out >= 0;
}

bool at_service_pass(at_service *service, at_newcomer *newcomer, int timeout_ms)
{
    if (service->passage_out < 0 || newcomer->tls != NULL) {
        return false;
    }
    at_passage_note note = {.requests = newcomer->requests,
                            .moved = newcomer->moved,
                            .local_known = newcomer->local_known,
                            .peer = newcomer->peer,
                            .local = newcomer->local};
    if (at_passage_send(service->passage_out, newcomer->descriptor, &note, sizeof note,
                        timeout_ms) < 0) {
        return false;
    }
    at_newcomer_close(newcomer);
    return true;
}

int at_service_take_passed(at_service *service, at_newcomer *newcomer)
{
    at_passage_note note;
    int descriptor = at_passage_receive(service->passage_in, &note, sizeof note);
    if (descriptor < 0) {
        return descriptor;
    }
    *newcomer = (at_newcomer){.descriptor = descriptor,
                              .peer = note.peer,
                              .requests = note.requests,
                              .moved = note.moved,
                              .local_known = note.local_known,
                              .local = note.local};
    return 0;
}
