/* What Python's str does to a file's text where a bundle depends on it: lines, and the package line. Pure. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_TEXT_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_TEXT_H

#include <stdbool.h>
#include "shm/common/text.h"

/* Takes the next line off `rest`, without its end; false when nothing is left. Line ends are those of
 * str.splitlines(): \n, \r\n, \r, \v, \f, U+001C to U+001E, U+0085, U+2028, U+2029. */
bool bundle_text_line(struct slice *rest, struct slice *line);

/* The name in the first line that is `package NAME` and nothing else: letters, digits and . " [ ] only (the
 * reference's rule, narrower than Rego's). Empty when there is none. A view into `text`. */
struct slice bundle_text_package(struct slice text);

#endif
