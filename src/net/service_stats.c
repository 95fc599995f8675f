/* What a service tells of its workers; see service.h. */
#include <string.h>

#include "net/access_log.h"
#include "net/service_internal.h"
#include "sys/wakefd.h"

bool at_service_stats(at_service *service, int index, at_reactor_stats *stats)
{
    *stats = (at_reactor_stats){0};
    if (index < 0 || index >= AT_REACTORS_MAX) {
        return false;
    }
    (void)pthread_mutex_lock(&service->mutex);
    if (service->reactors[index] != NULL) {
        at_reactor_stats_get(service->reactors[index], stats);
    }
    (void)pthread_mutex_unlock(&service->mutex);
    return true;
}

bool at_service_worker(at_service *service, int process, int worker,
                       at_worker_stats *stats)
{
    return at_boards_worker(&service->boards, service->board, process, worker, stats);
}

void at_service_count_restart(at_service *service, at_restart why)
{
    at_board_count_restart(service->board, why);
}

void at_service_restarts(at_service *service, uint64_t counts[AT_RESTARTS])
{
    at_boards_restarts(&service->boards, counts);
}

void at_service_tell(at_service *service)
{
    at_board *board = service->board;
    if (service->sources.images != NULL) {
        uint64_t loaded, unmapped, copied, shared;
        service->sources.images(&loaded, &unmapped, &copied, &shared);
        at_board_tell(board, AT_TOLD_LOADED, loaded);
        at_board_tell(board, AT_TOLD_UNMAPPED, unmapped);
        at_board_tell(board, AT_TOLD_COPIED, copied);
        at_board_tell(board, AT_TOLD_SHARED, shared);
    }
    if (service->access_log != NULL) {
        at_board_tell(board, AT_TOLD_UNWRITTEN,
                      at_access_log_failed(service->access_log));
    }
}

/* ---- the boards ------------------------------------------------------------------ */

const at_boards *at_service_boards(const at_service *service)
{
    return &service->boards;
}

at_record *at_service_take_record(at_service *service, int worker)
{
    return at_board_take(&service->boards, service->board, worker);
}

/* Have those boards, at that place. */
static int change_boards(at_service *service, at_boards *boards, int place,
                         at_fault *fault)
{
    at_board *board = at_boards_at(boards, place);
    if (board == NULL) {
        return at_fault_set(fault, AT_EINVALID, "there is no place %d", place);
    }
    at_boards_close(&service->boards);
    service->boards = *boards;
    service->board = board;
    at_board_begin(board);
    return 0;
}

int at_service_open_boards(at_service *service, int process_count, int worker_count,
                           at_fault *fault)
{
    at_boards boards;
    int result = at_boards_open(&boards, process_count, worker_count, fault);
    if (result < 0) {
        return result;
    }
    int descriptor = boards.memory.descriptor;
    result = change_boards(service, &boards, at_boards_give(&boards, AT_PROCESS_FIRST),
                           fault);
    return result < 0 ? result : descriptor;
}

int at_service_join_boards(at_service *service, int descriptor, int place,
                           at_fault *fault)
{
    at_boards boards;
    int result = at_boards_adopt(&boards, descriptor, fault);
    if (result == 0 && (result = change_boards(service, &boards, place, fault)) < 0) {
        at_memfd_unmap(&boards.memory); /* the descriptor is the caller's still */
    }
    return result;
}

int at_service_give_board(at_service *service, int process)
{
    return at_boards_give(&service->boards, process);
}

void at_service_take_board_back(at_service *service, int place)
{
    at_boards_take_back(&service->boards, place);
}

/* ---- workers that have had their requests ---------------------------------------- */

void at_service_set_most(at_service *service, int thread, uint64_t requests)
{
    (void)pthread_mutex_lock(&service->mutex);
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        at_reactor *reactor = service->reactors[i];
        if (reactor != NULL && at_reactor_thread(reactor) == thread) {
            at_reactor_set_most(reactor, requests);
        }
    }
    (void)pthread_mutex_unlock(&service->mutex);
}

int at_service_spent(at_service *service)
{
    int descriptor = atomic_load(&service->spent);
    if (descriptor < 0) {
        int fresh = at_wakefd_open(NULL);
        if (fresh >= 0 &&
            !atomic_compare_exchange_strong(&service->spent, &descriptor, fresh)) {
            at_wakefd_close(fresh);
        }
        descriptor = atomic_load(&service->spent);
    }
    return descriptor;
}

void at_service_tell_spent(at_service *service)
{
    int descriptor = atomic_load(&service->spent);
    if (descriptor >= 0) {
        at_wakefd_set(descriptor);
    }
}
