-- Argo CD health of a FineTuneJob: kstatus' reading of Ready and Stalled, in Argo's words.
local health = { status = "Progressing", message = "waiting for the operator" }
local status = obj.status
if status == nil or status.phase == nil then
  return health
end
if status.message ~= nil and status.message ~= "" then
  health.message = status.message
else
  health.message = status.reason or status.phase
end
if status.observedGeneration ~= nil and obj.metadata.generation ~= nil and status.observedGeneration < obj.metadata.generation then
  return health
end
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition.status
end
if conditions.Stalled == "True" then
  health.status = "Degraded"
elseif status.phase == "Suspended" then
  health.status = "Suspended"
elseif conditions.Complete == "True" or conditions.Ready == "True" then
  health.status = "Healthy"
end
return health
