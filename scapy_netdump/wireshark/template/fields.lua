-- Fields ------------------------------------------------------------------------------------

-- What is not on the wire but follows from what was seen: abbreviation, kind, name, meaning.
local CALCULATED = {
    { "data", "bytes", "data", "Payload, or what is left of it." },
    { "ack", "bool", "ack", "This is an acknowledgement, the only thing that a server sends." },
    { "dump", "uint32", "dump", "Number of the dump in the capture, from 1." },
    { "client", "string", "client", "Address of the machine that panicked." },
    { "client_dump", "uint32", "dump of this client", "Number of the dump among its client's." },
    { "ack_to", "request", "ack to", "The message that this acknowledges." },
    { "acked_in", "response", "acked in", "The frame with the ack." },
    { "ack_time", "span", "ack time", "Time from the message to its ack." },
    { "retransmission", "bool", "retransmission", "All of the payload was seen before." },
    { "retransmission_of", "again", "retransmission of", "The frame that this one repeats." },
    { "resent_in", "again", "resent in", "The frame in which the payload comes again." },
    { "expected_offset", "uint64", "expected offset", "Where the payload would follow on." },
    { "gap", "uint64", "gap", "Bytes between the expected offset and this payload." },
    { "overlap", "uint64", "overlap", "Bytes of the payload that were seen before, not all." },
    { "received", "uint64", "bytes so far", "Distinct bytes of the dump seen up to here." },
    { "broken_off", "bool", "broken off", "The last message of a dump without FINISHED." },
    { "missing", "uint64", "missing", "Bytes that never came until FINISHED." },
    { "gaps", "uint32", "gaps", "Ranges of bytes that never came until FINISHED." },
    { "missing_range", "string", "missing range", "One such range, [start, end)." },
    { "kdh.parity_ok", "bool", "parity ok", "The XOR of the header's words is 0." },
    { "quoted", "bool", "quoted", "An ICMP error quotes this; nobody sent it here." },
}

-- Constructors by kind: abbreviation, name, meaning, value strings.
local MAKE = {}
for _, size in ipairs({ "uint8", "uint16", "uint32", "uint64" }) do
    MAKE[size] = function(abbreviation, name, meaning, values)
        return ProtoField[size](abbreviation, name, base.DEC, values, nil, meaning)
    end
end
function MAKE.hex32(abbreviation, name, meaning)
    return ProtoField.uint32(abbreviation, name, base.HEX, nil, nil, meaning)
end
function MAKE.hex64(abbreviation, name, meaning)
    return ProtoField.uint64(abbreviation, name, base.HEX, nil, nil, meaning)
end
function MAKE.string(abbreviation, name, meaning)
    return ProtoField.string(abbreviation, name, base.UNICODE, meaning)
end
MAKE.path = MAKE.string
function MAKE.bytes(abbreviation, name, meaning)
    return ProtoField.bytes(abbreviation, name, base.NONE, meaning)
end
function MAKE.bool(abbreviation, name, meaning)
    return ProtoField.bool(abbreviation, name, base.NONE, nil, nil, meaning)
end
function MAKE.time(abbreviation, name, meaning)
    return ProtoField.absolute_time(abbreviation, name, base.UTC, meaning)
end
function MAKE.span(abbreviation, name, meaning)
    return ProtoField.relative_time(abbreviation, name, meaning)
end
for kind, link in pairs({
    request = frametype.REQUEST,
    response = frametype.RESPONSE,
    again = frametype.RETRANS_PREV,
}) do
    MAKE[kind] = function(abbreviation, name, meaning)
        return ProtoField.framenum(abbreviation, name, base.NONE, link, nil, meaning)
    end
end

local FIELD, SHOWN_AS = {}, {} -- by abbreviation without the protocol's name
local all_fields = {}
for _, definitions in ipairs({ DEFINED, CALCULATED }) do
    for _, definition in ipairs(definitions) do
        local abbreviation, kind = definition[1], definition[2]
        local name, meaning, values = definition[3], definition[4], definition[5]
        local field = MAKE[kind]("fbsd_netdump." .. abbreviation, name, meaning, values)
        FIELD[abbreviation], SHOWN_AS[abbreviation] = field, kind
        all_fields[#all_fields + 1] = field
    end
end
proto.fields = all_fields

-- Size of a layout's fixed fields, and where each begins.
local function measure(layout)
    local at, places = 0, {}
    for _, entry in ipairs(layout) do
        places[entry[1]] = at
        at = at + (tonumber(entry[2]) or 0)
    end
    return at, places
end
local HEADER_SIZE, HEADER_AT = measure(LAYOUT.message)
local ACK_SIZE = measure(LAYOUT.ack)
local KDH_SIZE, KDH_AT = measure(KDH_LAYOUT[KDH_NEWEST])

-- Expert notes ------------------------------------------------------------------------------

local NOTE = {}
local all_notes = {}
local function note(name, text, group, severity)
    NOTE[name] = ProtoExpert.new("fbsd_netdump.note." .. name, text, group, severity)
    all_notes[#all_notes + 1] = NOTE[name]
end

local SEQUENCE, PROTOCOL = expert.group.SEQUENCE, expert.group.PROTOCOL
local MALFORMED, CHECKSUM = expert.group.MALFORMED, expert.group.CHECKSUM
local CHAT, REMARK = expert.severity.CHAT, expert.severity.NOTE
local WARN, ERROR = expert.severity.WARN, expert.severity.ERROR

note("retransmission", "Retransmission", SEQUENCE, REMARK)
note("duplicate_ack", "Acked before", SEQUENCE, REMARK)
note("unexpected_ack", "Ack for a message that was not seen", SEQUENCE, WARN)
note("never_acked", "Never acked in this capture", SEQUENCE, WARN)
note("gap", "Bytes were skipped", SEQUENCE, REMARK)
note("overlap", "Overlaps bytes that came before, cut differently", SEQUENCE, WARN)
note("other_place", "Same sequence number as another place", SEQUENCE, WARN)
note("bytes_missing", "Finished with bytes missing", SEQUENCE, ERROR)
note("broken_off", "The dump ends here without FINISHED", SEQUENCE, WARN)
note("too_scattered", "Too many ranges: coverage is not followed", SEQUENCE, WARN)
note("length", "len is not what the datagram holds", MALFORMED, ERROR)
note("type", "Unknown type", MALFORMED, ERROR)
note("runt", "Neither a message nor an ack", MALFORMED, ERROR)
note("far", "Beyond 16 TiB: not believed", MALFORMED, WARN)
note("stray", "Not for this port: only a HERALD is", PROTOCOL, WARN)
note("refused", "netdumpd refuses payloads over 4096 bytes", PROTOCOL, WARN)
note("path", "A path without its NUL is not used", PROTOCOL, WARN)
note("magic", "This is no dump header: unknown magic", PROTOCOL, ERROR)
note("parity", "The dump header is damaged: wrong parity", CHECKSUM, ERROR)
note("short_header", "The dump header is not all here", MALFORMED, WARN)
note("date", "Not a date", PROTOCOL, WARN)
note("key_goes_on", "The key goes on in another message", PROTOCOL, CHAT)
proto.experts = all_notes

