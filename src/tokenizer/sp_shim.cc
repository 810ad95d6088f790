/* The C face of libsentencepiece (see sp_shim.h): the only C++ of the program.
 *
 * Every entry catches everything, because an exception that reaches a C frame ends the process.
 * The library reports by util::Status; its text is copied out, cut to the caller's buffer. */
#include "sp_shim.h"

#include <sentencepiece_processor.h>

#include <cstdio>
#include <memory>
#include <new>
#include <string_view>
#include <vector>

/* UBSan's vptr check needs its C++ run-time library, but the program is linked as C, and the
 * library's own classes are not instrumented: nothing would be checked. */
#define NO_VPTR_CHECK __attribute__((no_sanitize("vptr")))

struct sp_model {
    sentencepiece::SentencePieceProcessor processor;
};

extern "C" NO_VPTR_CHECK int sp_load(struct sp_model **out, const void *bytes, size_t n_bytes,
                                     char *why, size_t why_bytes)
{
    why[0] = '\0';
    try {
        auto model = std::make_unique<sp_model>();
        const auto status = model->processor.LoadFromSerializedProto(
            std::string_view(static_cast<const char *>(bytes), n_bytes));

        if (!status.ok()) {
            std::snprintf(why, why_bytes, "%s", status.error_message());
            return SP_REFUSED;
        }
        *out = model.release();
        return SP_OK;
    } catch (const std::bad_alloc &) {
        return SP_NOMEM;
    } catch (const std::exception &e) {
        std::snprintf(why, why_bytes, "%s", e.what());
        return SP_REFUSED;
    } catch (...) {
        return SP_REFUSED;
    }
}

extern "C" NO_VPTR_CHECK void sp_free(struct sp_model *m)
{
    delete m;
}

extern "C" NO_VPTR_CHECK int sp_n_pieces(const struct sp_model *m)
{
    return m->processor.GetPieceSize();
}

extern "C" NO_VPTR_CHECK int sp_encode(const struct sp_model *m, const char *text, size_t n_bytes,
                                       int32_t *ids, size_t cap, size_t *n_ids)
{
    try {
        std::vector<int> found;

        if (!m->processor.Encode(std::string_view(text, n_bytes), &found).ok())
            return SP_REFUSED;
        if (found.size() > cap)
            return SP_TOO_SMALL;
        for (size_t i = 0; i < found.size(); i++)
            ids[i] = found[i];
        *n_ids = found.size();
        return SP_OK;
    } catch (const std::bad_alloc &) {
        return SP_NOMEM;
    } catch (...) {
        return SP_REFUSED;
    }
}
