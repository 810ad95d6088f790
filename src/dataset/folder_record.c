/* Lines of a Hugging Face imagefolder's metadata.jsonl: "file_name" beside it, and columns.
 *
 * The column "text" is the expected answer unless there is a "suffix". The file's name is the id. */
#include "json_record.h"

#include <string.h>

#include "status.h"

int folder_fill(const struct reader_params *p, struct draft *d, const struct json *object)
{
    const char *name;

    TRY(json_record_id(d, object, "id", &d->id));
    TRY(json_record_usual(d, object, "text"));
    TRY(json_record_fields(d, object));
    TRY(json_record_text(d, object, "file_name", &name));
    if (!name || name[0] == '\0')
        return FAIL(ERR_INPUT, "%s: no \"file_name\"", d->place_text);
    if (!d->id)
        d->id = name;
    return draft_add_file(d, p, name);
}
