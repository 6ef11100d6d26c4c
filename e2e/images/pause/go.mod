module finetune.test/e2e/images/pause

go 1.23
