-- Trees and summaries -----------------------------------------------------------------------

-- Most of the time nobody looks at most fields, and adding them costs more than all the rest:
-- only those are added that are on the screen, or in a filter, column or graph.
local dissector -- to ask whether anything of netdump is looked at
local real_tree, everything, something

local function look_at(tree)
    real_tree, everything = tree, tree.visible
    something = everything or tree:referenced(dissector)
end

local function wanted(field)
    return everything or (something and real_tree:referenced(field))
end

local TWO_TO_32 = 4294967296.0 -- a double: integers of Lua 5.3 and later would wrap around

-- From plain numbers to what fields of some kinds hold.
local CONVERT = {}
function CONVERT.uint64(number)
    return UInt64.new(number % TWO_TO_32, math.floor(number / TWO_TO_32))
end
function CONVERT.span(seconds)
    local whole = math.floor(seconds)
    return NSTime.new(whole, math.floor((seconds - whole) * 1000000000 + 0.5))
end
CONVERT.request, CONVERT.response, CONVERT.again = math.floor, math.floor, math.floor -- of keys

-- What was worked out, not read.
local function calculated(tree, name, value)
    local field = FIELD[name]
    if wanted(field) then
        local convert = CONVERT[SHOWN_AS[name]]
        if convert then
            value = convert(value)
        end
        tree:add(field, value):set_generated()
    end
end

local function u32(raw, at)
    local a, b, c, d = string.byte(raw, at + 1, at + 4)
    return ((a * 256 + b) * 256 + c) * 256 + d
end

local function hex(high, low)
    return high > 0 and string.format("0x%x%08x", high, low) or string.format("0x%x", low)
end

local UNITS = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" }

local function size_text(bytes)
    if bytes < 1024 then
        return string.format("%.0f B", bytes)
    end
    local unit = 0
    while bytes >= 1024 and unit < #UNITS do
        bytes, unit = bytes / 1024, unit + 1
    end
    return string.format("%.1f %s", bytes, UNITS[unit])
end

-- Text from the network for one line: nothing in it that moves a cursor or turns text around.
local function one_line(text)
    text = string.gsub(text, "[%c\127]", function(c)
        return string.format("\\x%02x", string.byte(c))
    end)
    text = string.gsub(text, "\194[\128-\159]", "?")
    text = string.gsub(text, "\226\128[\142\143\168-\174]", "?")
    return (string.gsub(text, "\226\129[\166-\169]", "?"))
end

-- What stands before the first NUL.
local function c_string(range)
    local raw = range:raw()
    local nul = string.find(raw, "\0", 1, true)
    local length = nul and nul - 1 or #raw
    return length > 0 and range(0, length):string(ENC_UTF_8) or ""
end

local SHOW = {} -- by kind: adds a field to a tree, and returns the value for summaries
local function show_number(tree, field, range)
    tree:add(field, range)
    return range:uint()
end
SHOW.uint8, SHOW.uint16 = show_number, show_number
SHOW.uint32, SHOW.hex32 = show_number, show_number
function SHOW.uint64(tree, field, range)
    tree:add(field, range)
    return range(0, 4):uint() * TWO_TO_32 + range(4, 4):uint()
end
function SHOW.bytes(tree, field, range)
    tree:add(field, range)
    return range:raw()
end
function SHOW.string(tree, field, range)
    local text = c_string(range)
    tree:add(field, range, text)
    return text
end
function SHOW.time(tree, field, range)
    local seconds = range(0, 4):uint() * TWO_TO_32 + range(4, 4):uint()
    if seconds < LIMIT.NO_DATE then
        tree:add(field, range, NSTime.new(seconds, 0))
    else
        tree:add_proto_expert_info(NOTE.date, "Not a date: " .. tostring(range:uint64()) .. " s")
    end
end

-- Adds the fields of a layout, as far as [at, stop) holds them whole; returns the values by
-- abbreviation, and where they ended.
local function show_layout(tree, layout, tvb, at, stop)
    local values = {}
    for _, entry in ipairs(layout) do
        local name, size = entry[1], entry[2]
        if type(size) == "string" then -- as long as that field says, or as much as is here
            size = math.min(values[size] or 0, stop - at)
        end
        if at + size > stop then
            break
        end
        if size > 0 then
            values[name] = SHOW[SHOWN_AS[name]](tree, FIELD[name], tvb(at, size))
        end
        at = at + size
    end
    return values, at
end

-- Adds the fields of fixed size that a message begins with, or that an ack is.
local function show_header(tree, layout, tvb, at)
    for _, entry in ipairs(layout) do
        local field, size = FIELD[entry[1]], entry[2]
        if wanted(field) then
            tree:add(field, tvb(at, size))
        end
        at = at + size
    end
end

local function show_data(tree, tvb, at, stop)
    if at < stop and wanted(FIELD.data) then
        tree:add(FIELD.data, tvb(at, stop - at))
    end
end

local function show_herald(tree, tvb, at, stop)
    local text = ""
    local raw = at < stop and tvb:raw(at, stop - at) or ""
    local nul = string.find(raw, "\0", 1, true)
    if nul and nul > 1 then
        local range = tvb(at, nul)
        local path = range(0, nul - 1):string(ENC_UTF_8)
        tree:add(FIELD.path, range, path)
        text = ' path "' .. one_line(path) .. '"'
        at = at + nul
    elseif #raw > 0 and not nul then
        tree:add_proto_expert_info(NOTE.path)
    end
    show_data(tree, tvb, at, stop)
    return text
end

local function parity_ok(raw)
    local sum = 0
    for at = 0, KDH_SIZE - 4, 4 do
        sum = bit.bxor(sum, u32(raw, at))
    end
    return sum == 0
end

-- The dump's length, if a header is to be trusted; nil otherwise.
local function trusted_length(tvb, at, stop)
    if stop - at < KDH_SIZE then
        return nil
    end
    local raw = tvb:raw(at, KDH_SIZE)
    local nul = string.find(raw, "\0", 1, true) or 1
    if not KDH_MAGIC[string.sub(raw, 1, nul - 1)] or not parity_ok(raw) then
        return nil
    end
    local length_at = KDH_AT["kdh.dumplength"]
    return u32(raw, length_at) * TWO_TO_32 + u32(raw, length_at + 4)
end

local function kdh_text(values)
    local compression = values["kdh.compression"] or 0
    local word = VALUES["kdh.compression"][compression] or "unknown compression"
    return string.format(
        ' %s "%s" %s%s',
        one_line(values["kdh.architecture"] or "?"),
        one_line(values["kdh.panicstring"] or "?"),
        size_text(values["kdh.dumplength"] or 0),
        compression > 0 and " " .. word or ""
    )
end

local function show_kdh(tree, tvb, at, stop)
    local branch = tree:add(tvb(at, math.min(stop - at, KDH_SIZE)), "Kernel dump header")
    local version_at = at + KDH_AT["kdh.version"]
    local version = version_at + 4 <= stop and tvb(version_at, 4):uint()
    local layout = KDH_LAYOUT[version] or KDH_LAYOUT[KDH_NEWEST]
    local values, after = show_layout(branch, layout, tvb, at, stop)
    if values["kdh.magic"] and not KDH_MAGIC[values["kdh.magic"]] then
        branch:add_proto_expert_info(NOTE.magic)
    end
    if stop - at >= KDH_SIZE then
        local ok = parity_ok(tvb:raw(at, KDH_SIZE))
        calculated(branch, "kdh.parity_ok", ok)
        if not ok then
            branch:add_proto_expert_info(NOTE.parity)
        end
    else
        branch:add_proto_expert_info(NOTE.short_header)
    end
    show_data(tree, tvb, after, stop)
    return kdh_text(values)
end

local function show_key(tree, tvb, at, stop)
    local branch = tree:add(tvb(at, stop - at), "Key of the dump")
    local values, after = show_layout(branch, LAYOUT.key, tvb, at, stop)
    if #(values["key.encryptedkey"] or "") < (values["key.encryptedkeysize"] or 0) then
        branch:add_proto_expert_info(NOTE.key_goes_on)
    end
    show_data(tree, tvb, after, stop)
    local cipher = VALUES["key.encryption"][values["key.encryption"] or -1]
    return cipher and " " .. cipher or ""
end

-- A vmcore that is neither compressed nor encrypted mostly begins like this.
local function show_minidump(tree, tvb, at, stop)
    if not something or stop - at < MINIDUMP_MAGIC_SIZE then
        return
    end
    local raw = tvb:raw(at, MINIDUMP_MAGIC_SIZE)
    local layout = MINIDUMP_LAYOUT[string.sub(raw, 1, (string.find(raw, "\0", 1, true) or 0) - 1)]
    if not layout then
        return
    end
    local branch = tree:add(tvb(at, stop - at), "Minidump header")
    local version
    for _, entry in ipairs(layout) do
        local name, size, since = entry[1], entry[2], entry[3]
        if at + size > stop or (version and version < since) then
            return
        end
        local range = tvb(at, size)
        if size == MINIDUMP_MAGIC_SIZE then
            branch:add(FIELD[name], range, c_string(range))
        else
            branch:add_le(FIELD[name], range)
        end
        if name == "minidump.version" then
            version = range:le_uint()
        end
        at = at + size
    end
end

