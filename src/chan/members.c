/* Members; see members.h. */
#include "chan/members.h"

#include "base/error.h"
#include "base/memory.h"

void at_members_init(at_members *members, at_shared *thing,
                     void (*left)(at_shared *thing, const at_members_left *left))
{
    (void)pthread_mutex_init(&members->mutex, NULL);
    members->first = NULL;
    members->thing = thing;
    members->left = left;
}

void at_members_fini(at_members *members)
{
    while (members->first != NULL) {
        at_member *member = members->first;
        members->first = member->next;
        at_membership_leave(&member->membership);
        at_shared_unref(&member->membership.peer->shared);
        at_free(member);
    }
    (void)pthread_mutex_destroy(&members->mutex);
}

/* Caller holds the mutex, and one reference that is no member's; `gone` has just
 * left. */
static at_members_left left_by(const at_members *members, const at_member *gone)
{
    at_members_left left = {
        .sent = atomic_load(&gone->sends),
        .received = atomic_load(&gone->receives),
    };
    size_t handle_count = 0;
    for (const at_member *member = members->first; member != NULL;
         member = member->next) {
        handle_count += member->handle_count;
        if (member->gone) {
            continue;
        }
        bool sends = atomic_load(&member->sends);
        bool receives = atomic_load(&member->receives);
        bool is_new = !sends && !receives && member->handle_count != 0;
        left.may_send |= sends || is_new;
        left.may_receive |= receives || is_new;
        left.alive |= member->handle_count != 0;
    }
    left.others = atomic_load(&members->thing->references) > handle_count + 1;
    return left;
}

static void member_closing(at_membership *membership)
{
    at_member *member = (at_member *)membership;
    at_members *members = member->members;
    (void)pthread_mutex_lock(&members->mutex);
    member->gone = true;
    at_members_left left = left_by(members, member);
    (void)pthread_mutex_unlock(&members->mutex);
    members->left(members->thing, &left);
}

static at_member *member_find(const at_members *members, const at_peer *peer)
{
    for (at_member *member = members->first; member != NULL; member = member->next) {
        if (member->membership.peer == peer) {
            return member;
        }
    }
    return NULL;
}

int at_members_join(at_members *members, at_peer *peer, at_member **joined)
{
    at_member *fresh = at_calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return AT_ENOMEM;
    }
    fresh->members = members;
    fresh->membership.peer = peer;
    fresh->membership.thing = members->thing;
    fresh->membership.closing = member_closing;

    (void)pthread_mutex_lock(&members->mutex);
    at_member *member = member_find(members, peer);
    int result = 0;
    if (member == NULL) {
        result = at_membership_enter(&fresh->membership);
        if (result == 0) {
            at_shared_ref(&peer->shared);
            fresh->next = members->first;
            members->first = fresh;
            member = fresh;
            fresh = NULL;
        }
    }
    if (result == 0) {
        member->handle_count++;
        *joined = member;
    }
    (void)pthread_mutex_unlock(&members->mutex);
    at_free(fresh);
    return result;
}

void at_member_leave(at_member *member)
{
    at_members *members = member->members;
    (void)pthread_mutex_lock(&members->mutex);
    member->handle_count--;
    (void)pthread_mutex_unlock(&members->mutex);
}
