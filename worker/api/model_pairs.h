/* Python's dict() applied to a JSON value. */
#ifndef OPALD_WORKER_API_MODEL_PAIRS_H
#define OPALD_WORKER_API_MODEL_PAIRS_H

#include "worker/api/model.h"

enum model_pairs {
    /* `object` is set */
    MODEL_PAIRS_OBJECT,
    /* likewise, but some key was no string (it was turned into one as json.dumps does) */
    MODEL_PAIRS_OTHER_KEYS,
    MODEL_PAIRS_NOT_A_DICT,
};

/*
 * An object is returned as it is; an array of pairs or an empty string is rewritten into memory that `run`
 * owns.
 */
enum model_pairs model_pairs_as_object(
    struct model_run *run, struct model_value value, struct model_value *object);

#endif
