---@meta
-- What rules can use, for editors that read EmmyLua annotations (lua-language-server: add this
-- folder to workspace.library). Nothing loads this file.

---A series: metric name, tags, kind and unit. In tags.lua its `tags` may be changed in place, and it
---is renamed by assigning to `name` (or `measurement` and `field`); in the other rules everything is
---read-only.
---@class tidegate.Series
---@field name string         metric name; for Influx lines: measurement "_" field. In tags.lua also
---                           written series.tags.__name__
---@field kind "unknown"|"gauge"|"counter"|"histogram"|"exponential_histogram"|"summary"
---@field unit string         "" when the sender did not say
---@field tags table<string, string|number|boolean|nil>
---@field measurement string? only for Influx lines
---@field field string?       only for Influx lines
---@field origin fun(key: string): "resource"|"scope"|"point"|nil  where the sender put a tag

---What routing.lua returns.
---@class tidegate.Route
---What strategy.lua returns.
---@class tidegate.Strategy
---What retention.lua returns.
---@class tidegate.Retention

---Delivers the series to these backends. Takes names or one list of names. The order is that in which
---strategy.lua gets them.
---@param ... string|string[]
---@return tidegate.Route
function to(...) end

---Drops the series. The reason is shown by `tidegate explain`.
---@param reason? string
---@return tidegate.Route
function drop(reason) end

---Acknowledge when the log has it on disk; backends follow at their own pace.
---@return tidegate.Strategy
function logged() end

---Acknowledge when every backend of the series has confirmed.
---@return tidegate.Strategy
function all() end

---Deliver to this backend alone, and acknowledge when it has confirmed.
---@param primary string
---@return tidegate.Strategy
function primary_only(primary) end

---Acknowledge when this backend has confirmed; the others follow at their own pace.
---@param primary string
---@return tidegate.Strategy
function primary_with_async_replication(primary) end

---Keeps raw points for `duration` and rollups for theirs: keep("30d", { ["5m"] = "180d" }). At most 8
---rollups. Durations: "250ms", "30s", "5m", "12h", "90d", "2w", "1y", or a number of seconds.
---@param duration string|number
---@param rollups? table<string|number, string|number>
---@return tidegate.Retention
function keep(duration, rollups) end

---The first `digits` hex digits (1 to 64, default 16) of the value's SHA-256; nil stays nil. The same
---on every machine and for ever. It hides values from readers; it does not hide them from someone who
---can guess them and hash the guess.
---@param value string|number|nil
---@param digits? integer
---@return string?
function hash(value, digits) end

---What testing.load(...):decide{...} gives.
---@class tidegate.Plan
---@field name string
---@field tags table<string, string>
---@field targets string[]     backends, in the configuration's order
---@field dropped boolean
---@field reason string?       of drop()
---@field strategy "logged"|"all"|"primary_with_async_replication"|"primary_only"
---@field wait string[]        backends whose confirmation an acknowledgement waits for
---@field retention tidegate.PlanRetention?  nil = for ever
---@field failed boolean       a rule failed; the series takes the on_error route
---@field error string?        "routing.lua:12: ..."
---@field trace table<"tags"|"routing"|"strategy"|"retention", { file: string, line: integer, note: string }>

---@class tidegate.PlanRetention
---@field keep string
---@field keep_ms number
---@field rollups { every: string, keep: string, every_ms: number, keep_ms: number }[]
