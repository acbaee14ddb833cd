/* The names of stream errors, RFC 6120 §4.9.3. */
#include "common/stream/stream.h"

static const char *const names[STREAM_E_COUNT] = {
    [STREAM_E_BAD_FORMAT] = "bad-format",
    [STREAM_E_BAD_NAMESPACE_PREFIX] = "bad-namespace-prefix",
    [STREAM_E_CONFLICT] = "conflict",
    [STREAM_E_CONNECTION_TIMEOUT] = "connection-timeout",
    [STREAM_E_HOST_GONE] = "host-gone",
    [STREAM_E_HOST_UNKNOWN] = "host-unknown",
    [STREAM_E_IMPROPER_ADDRESSING] = "improper-addressing",
    [STREAM_E_INTERNAL_SERVER_ERROR] = "internal-server-error",
    [STREAM_E_INVALID_FROM] = "invalid-from",
    [STREAM_E_INVALID_NAMESPACE] = "invalid-namespace",
    [STREAM_E_INVALID_XML] = "invalid-xml",
    [STREAM_E_NOT_AUTHORIZED] = "not-authorized",
    [STREAM_E_NOT_WELL_FORMED] = "not-well-formed",
    [STREAM_E_POLICY_VIOLATION] = "policy-violation",
    [STREAM_E_REMOTE_CONNECTION_FAILED] = "remote-connection-failed",
    [STREAM_E_RESET] = "reset",
    [STREAM_E_RESOURCE_CONSTRAINT] = "resource-constraint",
    [STREAM_E_RESTRICTED_XML] = "restricted-xml",
    [STREAM_E_SEE_OTHER_HOST] = "see-other-host",
    [STREAM_E_SYSTEM_SHUTDOWN] = "system-shutdown",
    [STREAM_E_UNDEFINED_CONDITION] = "undefined-condition",
    [STREAM_E_UNSUPPORTED_ENCODING] = "unsupported-encoding",
    [STREAM_E_UNSUPPORTED_FEATURE] = "unsupported-feature",
    [STREAM_E_UNSUPPORTED_STANZA_TYPE] = "unsupported-stanza-type",
    [STREAM_E_UNSUPPORTED_VERSION] = "unsupported-version",
};

const char *stream_error_name(enum stream_error error)
{
    return names[error];
}

enum stream_error stream_error_parse(struct span name)
{
    for (size_t i = 0; i < STREAM_E_COUNT; i++)
        if (span_is(name, names[i]))
            return (enum stream_error)i;
    return STREAM_E_UNDEFINED_CONDITION;
}

enum stream_error stream_error_of_xml(enum xml_error error)
{
    switch (error) {
    case XML_STRAY_TEXT:
        return STREAM_E_BAD_FORMAT;
    case XML_RESTRICTED:
        return STREAM_E_RESTRICTED_XML;
    case XML_UNSUPPORTED_ENCODING:
        return STREAM_E_UNSUPPORTED_ENCODING;
    case XML_TOO_BIG:
    case XML_TOO_DEEP:
    case XML_TOO_MANY_ATTRS:
        return STREAM_E_POLICY_VIOLATION;
    case XML_OK:
    case XML_NOT_WELL_FORMED:
        break;
    }
    return STREAM_E_NOT_WELL_FORMED;
}
