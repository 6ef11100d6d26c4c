-- Argo CD health of a ModelDeployment: kstatus' reading of Ready and Stalled, in Argo's words. A rollout that waits for a
-- person is Suspended; one that was taken back is Degraded while stable serves on, for Git asks for what is not served.
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
if conditions.Stalled == "True" or status.phase == "Degraded" then
  health.status = "Degraded"
elseif status.phase == "Paused" then
  health.status = "Suspended"
elseif conditions.Ready == "True" then
  health.status = "Healthy"
end
return health
