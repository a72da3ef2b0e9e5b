/* Of close.pml: requests of any thread to a poller, and its wake. */

/* np_connection_post as far as it is one step: `step` tells what is left of it.
 * In an atomic sequence. */
inline request(bits) {
    ALIVE;
    step = (step == 0 && requests & R_QUEUED -> 0 : 1);
    requests = requests | bits | R_QUEUED
}

/* The rest of np_connection_post, np_worker_wake; in the end the lock is
 * released if it is held. */
inline post(held) {
    if
    :: step == 0
    :: step == 1 ->
        atomic {                        /* post_lock */
            ALIVE;
            if
#ifndef M_POSTS_TO_THE_ENDED
            :: closed[worker] -> step = 0; lock = lock && !held
#endif
            :: else ->
#ifndef M_NO_POSTED_REFERENCE
                refs++;
#endif
                assert(!posted);
                posted = true;
#ifdef WAKES
                step = 2
#else
                step = 0; lock = lock && !held
#endif
            fi
        }
#ifdef WAKES
        if
        :: step == 0
        :: step == 2 -> wake(worker, held)
        fi
#endif
    fi
}

inline wake(w, held) {
#ifndef WAKES
    skip
#else
    atomic {
        if
        :: asleep[w] -> asleep[w] = false; step = 3
        :: else -> step = 0; lock = lock && !held
        fi
    }
    if
    :: step == 0
    :: step == 3 ->
        d_step {                        /* wake_lock */
#ifndef M_WAKE_WITHOUT_LOCK
            if
            :: ended[w]
            :: else -> assert(!port_closed[w]); wake_fd[w] = true
            fi;
#else
            assert(!port_closed[w]);
            wake_fd[w] = true;
#endif
            step = 0;
            lock = lock && !held
        }
    fi
#endif
}
