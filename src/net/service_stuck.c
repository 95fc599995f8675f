/* Workers of a service that are stuck; see service.h and reactor_stuck.c. */
#include <assert.h>
#include <stdio.h>
#include <time.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "http/h1_response.h"
#include "http/h2_farewell.h"
#include "net/parting.h"
#include "net/reactor.h"
#include "net/service_internal.h"
#include "sys/clock.h"
#include "sys/thread.h"

at_reactor *at_service_reactor_of(at_service *service, int thread)
{
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        at_reactor *reactor = service->reactors[i];
        if (reactor != NULL && at_reactor_thread(reactor) == thread &&
            !at_reactor_is_given_up(reactor)) {
            return reactor;
        }
    }
    return NULL;
}

bool at_service_signal_thread(at_service *service, int thread, int number)
{
    (void)pthread_mutex_lock(&service->mutex);
    /* The thread lives while its reactor is there: the number cannot be another's. */
    bool sent = at_service_reactor_of(service, thread) != NULL &&
                at_thread_signal(thread, number);
    (void)pthread_mutex_unlock(&service->mutex);
    return sent;
}

bool at_service_probe(at_service *service, int index, at_probe *probe)
{
    *probe = (at_probe){0};
    if (index < 0 || index >= AT_REACTORS_MAX) {
        return false;
    }
    (void)pthread_mutex_lock(&service->mutex);
    at_reactor *reactor = service->reactors[index];
    if (reactor != NULL && !at_reactor_is_given_up(reactor)) {
        probe->thread = at_reactor_thread(reactor);
        probe->silent_ns = at_reactor_probe(reactor, at_clock_ns());
    }
    (void)pthread_mutex_unlock(&service->mutex);
    return true;
}

/* "503 Service Unavailable" without a body, which fits every method, in both languages.
 * Returns 0 or AT_ENOMEM; *words points into the others. */
static int write_503(at_last_words *words, at_bytes *out,
                     char block[AT_H2_FAREWELL_BLOCK_BYTES], int retry_after_s)
{
    char seconds[16], date[AT_HTTP_DATE_BYTES];
    int size = snprintf(seconds, sizeof seconds, "%d", retry_after_s);
    at_http_date(date, time(NULL));
    at_h1_header header = {{"retry-after", 11}, {seconds, (size_t)size}};
    at_h1_response response = {
        .status = 503,
        .headers = &header,
        .header_count = 1,
        .date = {date, sizeof date},
        .server = {"atoll", 5},
    };
    int result = at_h1_write_head(out, &response);
    *words = (at_last_words){
        .answer = {out->data, out->size},
        .block = {block, at_h2_farewell_block(block, response.date, header.value)},
    };
    return result;
}

/* Memory for `count` moves, or for fewer. Gives how many. */
static int make_spare(at_newcomer **spare, int count)
{
    int made = 0;
    while (made < count && (spare[made] = at_alloc(sizeof **spare)) != NULL) {
        made++;
    }
    return made;
}

/* Put each of the list where there is room for it. Caller holds the mutex. */
static void settle_elsewhere(at_service *service, at_newcomer *list)
{
    while (list != NULL) {
        at_newcomer *newcomer = list;
        list = newcomer->next;
        if (!at_service_place_locked(service, NULL, newcomer)) {
            at_newcomer_close(newcomer);
        }
    }
}

int at_service_give_up(at_service *service, int thread, int retry_after_s,
                       at_given_up *result)
{
    enum { LATER = 64 }; /* connections that may come before it is given up */
    *result = (at_given_up){0};
    at_last_words words;
    char block[AT_H2_FAREWELL_BLOCK_BYTES];
    at_bytes answer;
    at_bytes_init(&answer);
    if (write_503(&words, &answer, block, retry_after_s) < 0) {
        at_bytes_fini(&answer);
        return AT_ENOMEM;
    }
    at_partings partings;
    if (at_partings_init(&partings) < 0) {
        at_bytes_fini(&answer);
        return AT_ENOMEM;
    }
    (void)pthread_mutex_lock(&service->mutex);
    at_reactor *reactor = at_service_reactor_of(service, thread);
    size_t count = reactor != NULL ? at_reactor_load(reactor) + LATER : 0;
    (void)pthread_mutex_unlock(&service->mutex);
    at_newcomer **spare = at_calloc(count + 1, sizeof *spare);
    int spare_count = spare != NULL ? make_spare(spare, (int)count) : 0;
    (void)pthread_mutex_lock(&service->mutex);
    reactor = at_service_reactor_of(service, thread);
    if (reactor != NULL) {
        settle_elsewhere(service, at_reactor_give_up(reactor, &words, &partings, spare,
                                                     &spare_count, result));
    }
    (void)pthread_mutex_unlock(&service->mutex);
    at_partings_finish(&partings, service->limits.farewell_timeout_ns);
    assert(spare != NULL ||
           spare_count == 0); /* the reactor took, and put none there */
    while (spare_count > 0) {
        at_free(spare[--spare_count]);
    }
    at_free(spare);
    at_bytes_fini(&answer);
    return reactor != NULL ? 0 : AT_EINVALID;
}

int at_service_cut(at_service *service, int thread, int retry_after_s,
                   at_given_up *result)
{
    *result = (at_given_up){0};
    at_last_words words;
    char block[AT_H2_FAREWELL_BLOCK_BYTES];
    at_bytes answer;
    at_bytes_init(&answer);
    at_partings partings;
    if (write_503(&words, &answer, block, retry_after_s) < 0 ||
        at_partings_init(&partings) < 0) {
        at_bytes_fini(&answer);
        return AT_ENOMEM;
    }
    (void)pthread_mutex_lock(&service->mutex);
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        at_reactor *reactor = service->reactors[i];
        if (reactor != NULL && at_reactor_thread(reactor) == thread &&
            at_reactor_is_given_up(reactor)) {
            at_reactor_cut(reactor, &words, &partings, result);
        }
    }
    (void)pthread_mutex_unlock(&service->mutex);
    at_partings_finish(&partings, service->limits.farewell_timeout_ns);
    at_bytes_fini(&answer);
    return 0;
}
