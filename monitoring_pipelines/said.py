"""Sentences that are stored or answered in English, in the reader's language (S-801).

Reasons, errors and refusals are written in English where they arise: they stand in logs, in the state store, in answers to
programs. A page shows them in its reader's language and a message in the configured one, by this one table: ``{}`` for what differs
and ``{n}`` for a number. What stands for ``{}`` may itself be such a sentence. Words of a source, of a server or of a person are in no
table: they stay as they are.

What belongs here: the table and its look-up. What does not: texts that pages make themselves (``pages.*.STRINGS``).
"""

from __future__ import annotations

import re
from functools import lru_cache

#: Written in English → in Chinese.
_ZH = {
    # Runs that were not made, or ended otherwise than well.
    "the product was not running": "本系统未运行",
    "{} due times while the product was not running": "本系统未运行期间错过 {} 次",
    "the previous run still goes on ({}, {})": "上一次运行尚未结束（{}，{}）",
    "the job is switched off": "任务已停用",
    "another {} check was still running": "另一次 {} 检查尚未结束",
    "a {} check is already running ({})": "{} 检查正在运行（{}）",
    "the run was canceled": "运行被取消",
    "the run was deleted": "运行记录被删除",
    "the run failed": "运行失败",
    "the run was interrupted": "运行被中断",
    "The process of this run is gone (killed, or the machine restarted); the next run continues its work.":
        "此运行的进程已不存在（被终止，或机器重启）；下一次运行会继续它的工作",
    "Exceeded maximum runtime of {} seconds": "超过最长运行时间 {} 秒",
    "interrupted: its process ended without a word": "中断：进程意外结束",
    "interrupted: {}": "中断：{}",
    "waits: {}": "等待：{}",
    "error: {}": "错误：{}",
    "Cause: {}": "原因：{}",
    "What to do: {}": "处理办法：{}",
    # What a check says of itself.
    "not mapped: {}": "未映射：{}",
    "no recoverer needs it": "没有恢复方式需要它",
    "the source was not asked": "没有查询数据源",
    "the output table's task key has no length": "输出表的任务键没有长度限制",
    "no state store": "没有状态库",
    "{} days with tasks": "有任务的天数为 {}",
    "the rule is switched off": "规则已停用",
    "these statistics have not been computed yet": "尚未计算这些统计",
    "no settled rows in the window": "窗口内没有已稳定的行",
    "{} could not be evaluated: {}": "无法评估 {}：{}",
    "{}: {} expectations do not hold: {}": "{}：{} 条期望不成立：{}",
    "{}: not “{}” ({}) in {} of {} rows": "{}：不符合“{}”（{}），{} / {} 行",
    "{}: not “{}” in {} of {} rows": "{}：不符合“{}”，{} / {} 行",
    "{}: not “{}” ({})": "{}：不符合“{}”（{}）",
    "{}: not “{}”": "{}：不符合“{}”",
    "check {} failed: {}": "检查 {} 出错：{}",
    "more than {} findings": "问题超过 {} 个",
    "not finished after {} s": "{} 秒后仍未完成",
    "exit code {}": "退出码 {}",
    # Warehouse, published files, state store.
    "the warehouse {} is in use by {}; waited {} s": "数据仓库 {} 正被 {} 占用，已等待 {} 秒",
    "another process": "另一进程",
    "another extraction of {} is still running ({})": "{} 的另一次抽取尚未结束（{}）",
    "wait for it to finish; a process that died does not block": "等它结束；已退出的进程不会阻塞",
    "there is no warehouse at {}": "{} 没有数据仓库",
    "run the first extraction cycle": "先运行第一次抽取",
    "the lock of the warehouse cannot be taken: {}": "无法取得数据仓库的锁：{}",
    "the published files are being written by {}": "已发布的文件正由 {} 写入",
    "the published files at {} are being written by {}": "{} 的已发布文件正由 {} 写入",
    "try again later": "请稍后再试",
    "the published files cannot be read": "已发布的文件无法读取",
    "nothing has been published yet; the first minute tick does": "尚未发布数据；第一次每分钟任务会发布",
    "the state store cannot be used": "状态库无法使用",
    "the state store {} cannot be used": "状态库 {} 无法使用",
    # Sources.
    "the source did not answer": "数据源没有应答",
    "the source ended a statement at its time limit": "数据源因超时中止了语句",
    "the source cannot be reached: {}": "无法连接数据源：{}",
    "the source answered with an error: {}": "数据源返回错误：{}",
    "the connection to the source was lost: {}": "与数据源的连接中断：{}",
    "the fast reader cannot log in to the source": "快速读取无法登录数据源",
    "reading the source failed: {}": "读取数据源失败：{}",
    "source {} cannot be read: {}": "数据源 {} 无法读取：{}",
    "the replica lag cannot be read": "无法读取副本延迟",
    "check the account and its login method": "检查账号及其登录方式",
    "check the path in the DSN": "检查 DSN 中的路径",
    "there is no file {}": "没有文件 {}",
    "{}: table {} ({}) {}": "{}：表 {}（{}）{}",
    "does not exist": "不存在",
    "has disappeared": "已消失",
    "{}: table {} does not exist": "{}：表 {} 不存在",
    "{}: table {} has no column {} (mapped as {})": "{}：表 {} 没有列 {}（映射为 {}）",
    "{}: column {} ({}) has disappeared": "{}：列 {}（{}）已消失",
    "{}: column {} was {} and is now {}": "{}：列 {} 的类型由 {} 变为 {}",
    "restore it or change the mapping": "恢复它，或修改映射",
    "restore it, or change the mapping and run `mp validate`; when it returns, the gap is read by itself":
        "恢复它，或修改映射并运行 `mp validate`；恢复后缺口会自动补读",
    "restore it, or remove it from the mapping; when it returns, the gap is read by itself":
        "恢复它，或从映射中删除；恢复后缺口会自动补读",
    "change the mapping to the new type and run `mp validate`": "把映射改为新类型并运行 `mp validate`",
    "restore the column, or change the mapping and run `mp validate`": "恢复该列，或修改映射并运行 `mp validate`",
    # Features of a source and what they need.
    "completeness, trend, split": "完整性、趋势、前后对比",
    "output delay": "输出延迟",
    "endpoint counts and durations": "端点计数与耗时",
    "retries, orphaning, first event wins": "重试、丢失、首个事件优先",
    "worker figures": "工作器数值",
    "GPU, snapshot coverage": "GPU、快照覆盖率",
    "cold starts": "冷启动",
    "job statistics": "作业统计",
    "resource rules": "资源规则",
    "ingest rules": "采集规则",
    "target rules": "目标规则",
    "notification statistics": "通知统计",
    "repair": "修复",
    "an output table, repair_dsn_env and a recoverer": "输出表、repair_dsn_env 和一种恢复方式",
    "task(task_key, status, created_at or ended_at) and task_output(task_key) or inline":
        "task(task_key, status, created_at 或 ended_at) 以及 task_output(task_key) 或 inline",
    "task(task_key, status, created_at or ended_at) and task_output(task_key) or inline, task_output.created_at":
        "task(task_key, status, created_at 或 ended_at) 以及 task_output(task_key) 或 inline，task_output.created_at",
    "task_event, or task(created_at, started_at, ended_at, status)":
        "task_event，或 task(created_at, started_at, ended_at, status)",
    "worker(ready_at or terminated_at or last_heartbeat_at) or worker_snapshot":
        "worker(ready_at、terminated_at 或 last_heartbeat_at) 或 worker_snapshot",
    # Tasks of a repair plan and of a run.
    "(apply time)": "（应用时刻）",
    "the task has a valid output": "任务已有有效输出",
    "every recovered output is in the table": "找回的输出都已在表中",
    "the task row is gone": "任务行已不存在",
    "the task key is not a plain column": "任务键不是普通的列",
    "the document has {} bytes, more than {}": "文档有 {} 字节，超过 {}",
    "no event matches": "没有匹配的事件",
    "no outputs in the document": "文档中没有输出",
    "the answer is not JSON": "应答不是 JSON",
    "the answer has no list of outputs": "应答中没有输出列表",
    "an entry of the answer has no link": "应答中有一项没有链接",
    "unknown code {}": "未知代码 {}",
    "code {}": "代码 {}",
    "probing a link: {}": "探测链接：{}",
    "link_expired": "链接已过期",
    "state_changed": "任务或输出在计划之后有变化",
    "validation_failed: {}": "校验失败：{}",
    "auth_error: {}": "认证失败：{}",
    "transient_error: {}": "暂时性错误：{}",
    "constraint: {}": "约束不允许：{}",
    "db_error: {}": "数据库错误：{}",
    "approval_used": "批准已用于一次应用；请用恢复",
    "{} transient errors in a row, the last one: {}": "连续 {} 次暂时性错误，最后一次：{}",
    "{} transient errors in a row: {}": "连续 {} 次暂时性错误：{}",
    "{} of {} tasks of a batch failed": "一批中有 {} / {} 个任务失败",
    "pause file {} exists": "存在暂停文件 {}",
    "{} threads running, limit {}": "运行线程 {}，上限 {}",
    "the replica's lag cannot be read: {}": "无法读取副本延迟：{}",
    "the replica does not follow its primary: {}": "副本没有跟随主库：{}",
    "the replica is {} s behind, limit {} s": "副本落后 {} 秒，上限 {} 秒",
    "committed tasks could not be counted again": "无法重新清点已提交的任务",
    "the connection was lost": "连接中断",
    "the connection was lost and could not be opened again: {}": "连接中断且无法重新建立：{}",
    "the repair account lacks a right: {}": "修复账号缺少权限：{}",
    "the server became read-only: {}": "服务器变为只读：{}",
    "the repair account cannot connect: {}": "修复账号无法连接：{}",
    "plan {}: {}": "计划 {}：{}",
    "{n} missing": "缺失 {} 行",
    "{n} modified": "被修改 {} 行",
    "{n} duplicate": "重复 {} 行",
    "{n} rows modified_since": "之后被修改 {} 行",
    "{n} rows blocked_by_reference": "被引用 {} 行",
    # Dagster, as it is seen from outside.
    "Dagster {} {} is {}: {}": "Dagster 的{} {} {}：{}",
    "webserver": "网页服务",
    "daemon": "守护进程",
    "code_location": "代码位置",
    "schedule": "定时计划",
    "sensor": "传感器",
    "down": "停止运行",
    "failing": "出错",
    "late": "迟到",
    "stopped": "已停用",
    "it does not answer": "没有应答",
    "[Errno {n}] Connection refused": "连接被拒绝（错误 {}）",
    "timed out": "超时",
    "{} does not answer: {}": "{} 没有应答：{}",
    "{} does not answer as Dagster does: {}": "{} 的应答不是 Dagster 的：{}",
    "no code location is configured": "没有配置代码位置",
    "it has never been heard of": "从未有过心跳",
    "last heard of at {}": "最近一次心跳为 {}",
    "it is being loaded ({})": "正在加载（{}）",
    "it is off until it is switched on": "需手动启用",
    "it is switched off in Dagster": "已在 Dagster 中停用",
    "it has not been evaluated yet": "尚未评估",
    "its evaluation failed": "评估失败",
    "last evaluated {n} minutes ago": "最近一次评估在 {} 分钟前",
    "the rules could not be evaluated: {}": "规则无法评估：{}",
    "by alert {}": "被告警 {} 抑制",
    "by silence {}": "被静默规则 {} 覆盖",
    "{} is no pattern: {}": "{} 不是有效的匹配模式：{}",
    "the severity rose": "级别升高",
    "no longer configured": "不再配置",
    "exercise of {}: nothing is wrong": "{} 的演练：没有任何问题",
    "{} was restarted {} times in {} hours and is still sick; it is not restarted any more":
        "{0} 在 {2} 小时内已重启 {1} 次仍不正常，不再重启",
    "nobody hears of {} alerts: the route {} has no receiver": "没有人会收到 {} 告警：路由 {} 没有接收者",
    # Figures of processes and how they go.
    "rss": "内存",
    "fds": "文件描述符",
    "conns": "连接数",
    "threads": "线程数",
    "objects": "对象数",
    "rapidly_increasing": "快速上升",
    "slowly_increasing": "缓慢上升",
    # Expectations of tables and of rows a repair would insert.
    "table": "表",
    "a key is not empty": "键不为空",
    "one row per key ({})": "每个键一行（{}）",
    "the status is final": "状态为最终状态",
    "a task ends after it started": "任务结束不早于开始",
    "a task starts after it was created": "任务开始不早于创建",
    "errors are cut": "错误文字已截短",
    "the origin is known ({})": "来源已知（{}）",
    "a size is not negative": "大小不为负",
    "a link is not empty": "链接不为空",
    "no output twice ({})": "没有重复的输出（{}）",
    "its task exists ({})": "所属任务存在（{}）",
    "a closed hour is settled": "已关闭的小时已稳定",
    "no more tasks with outputs than tasks": "有输出的任务不多于任务",
    "no output is missing": "没有缺失的输出",
    "healthy": "健康",
    "at least degraded": "至少为降级",
    "not critical": "不严重",
    "http(s) address with a host": "带主机名的 http(s) 地址",
    "a media type is not empty": "媒体类型不为空",
    "allowed media type": "允许的媒体类型",
    "no output twice in a task": "同一任务没有重复的输出",
    "the task key fits into the table": "任务键放得进表中",
    "{} fits": "{} 放得下",
    "every documented column is there": "文档中的列都在",
    "not negative ({})": "不为负（{}）",
    "a percentage ({})": "为百分比（{}）",
    "is always known": "总有值",
    "the columns are there": "列都在",
    "has its type": "类型正确",
    # Delivery of messages.
    "{} did not answer within {} s": "{} 在 {} 秒内没有应答",
    "{}: the certificate is not accepted": "{}：证书不被接受",
    "{} cannot be reached: {}": "无法连接 {}：{}",
    "{} answered {}": "{} 返回 {}",
    "{} answered errcode {}: {}": "{} 返回 errcode {}：{}",
    "{} gave no errcode": "{} 没有返回 errcode",
    "{} refuses the recipients": "{} 拒绝收件人",
    "{} refuses {} recipients": "{} 拒绝 {} 个收件人",
    "Apprise does not understand the address": "Apprise 无法识别此地址",
    "the service did not accept the message": "服务没有接受消息",
    # Refusals of the API: parameters.
    "this path has no such parameter; did you mean {}?": "此地址没有这个参数；是否指 {}？",
    "this path has no such parameter; there are {}": "此地址没有这个参数；可用 {}",
    "this path has no such parameter; there are none here": "此地址没有参数",
    "it is given more than once": "只能给一次",
    "{} is no number": "{} 不是数字",
    "{} is given more than once": "{} 给了不止一次",
    "an RFC 3339 time or a date is needed, for example {}": "需要 RFC 3339 时间或日期，例如 {}",
    "too far in the past": "太早",
    "too far in the future": "太晚",
    "it must be before to": "必须早于 to",
    "more than {} days are too long": "不能超过 {} 天",
    "more than {} days are too long for granularity {}": "粒度为 {1} 时不能超过 {0} 天",
    "more than {} days are too long for grain {}": "粒度为 {1} 时不能超过 {0} 天",
    "give either at, or from and to": "请只给 at，或只给 from 与 to",
    "no source {}; did you mean {}?": "没有数据源 {}；是否指 {}？",
    "no source {}": "没有数据源 {}",
    "the product itself has nothing to repair": "本系统自身没有可修复的内容",
    "the product itself has no data to check": "本系统自身没有可检查的数据",
    "{} exists in several sources: {}; name one with source": "{} 存在于多个数据源：{}；请用 source 指定",
    "{} is no status; one of {}": "{} 不是状态；可用 {}",
    "{} is none of {}": "{} 不在 {} 之中",
    "not for deep checks": "不适用于深度检查",
    "only tasks without output can be ordered": "只有缺失列表可以排序",
    "give one of from and to, hours, or task_ids": "from 与 to、hours、task_ids 三者只给其一",
    "give from (with or without to), hours, or task_ids": "请给 from（可带 to）、hours 或 task_ids",
    "it must be later than starts_at and than now": "必须晚于 starts_at 和现在",
    "Input should be {}": "应为 {}",
    "Field required": "必填",
    "Extra inputs are not permitted": "未知字段",
    "it is not valid JSON": "不是有效的 JSON",
    "String should match pattern {}": "应符合 {}",
    "one of {}; with - before it descending": "{} 之一；前面加 - 为降序",
    "some of {}, with commas between them": "{} 中的若干个，以逗号分隔",
    "one of {}": "{} 之一",
    "String should have at most {} characters": "最多 {} 个字符",
    "a valid integer, unable to parse string as an integer": "整数",
    "a valid date or datetime, {}": "日期或时间",
    "greater than or equal to {}": "至少 {}",
    "less than or equal to {}": "至多 {}",
    "the request cannot be understood": "请求无法理解",
    "a value is too long or has characters that cannot be stored": "某个值过长或含有无法存储的字符",
    "the request cannot be answered": "请求无法应答",
    "Content-Length is not a number": "Content-Length 不是数字",
    "the body is larger than 1 MB": "请求内容超过 1 MB",
    # Refusals of the API: unknown, not allowed, not now.
    "there is nothing at this path": "此地址没有内容",
    "this path does not have that method": "此地址不支持该方法",
    "internal error": "内部错误",
    "not available at the moment": "暂时不可用",
    "unknown alert": "没有此告警",
    "unknown check run": "没有此检查记录",
    "unknown endpoint": "没有此端点",
    "unknown job": "没有此任务",
    "unknown process": "没有此进程",
    "unknown repair plan": "没有此修复计划",
    "unknown repair run": "没有此修复运行",
    "unknown runbook": "没有此处置手册",
    "unknown silence": "没有此静默规则",
    "unknown task": "没有此任务",
    "the product itself has no tasks": "本系统自身没有任务",
    "name one of {}, or configure api.compat.task_source": "请指定 {} 之一，或设置 api.compat.task_source",
    "this host name is not served here": "此主机名不在服务范围内",
    "requests from other sites may not change anything": "其他站点的请求不能作任何修改",
    "a token is needed": "需要令牌",
    "this needs an admin token": "需要管理员令牌",
    "this needs the role {}": "需要角色 {}",
    "only a firing alert can be acknowledged": "只能确认正在触发的告警",
    "no channel is configured": "没有配置通道",
    "another process is doing this already": "另一进程正在做同样的事",
    "a safety rule does not allow it": "安全规则不允许",
    "the {} could not be run; the log says why": "无法运行 {}，原因见日志",
    "the configuration is at fault; the log says why": "配置有误，原因见日志",
    "the check was started and has not reported back": "检查已启动，尚无回报",
    "jobs of a mapped scheduler are started there; its source has no trigger_hook":
        "业务任务由它自己的调度器启动；该数据源没有配置 trigger_hook",
    "the job works on a repair plan: it is started from the plan's page, or in Dagster with its id":
        "此任务处理一个修复计划：请在计划页面启动，或在 Dagster 中给出计划编号",
    "the job loads one new source: a sensor starts it when one is added":
        "此任务加载一个新数据源：添加数据源时由传感器启动",
    "jobs of a mapped scheduler are switched there": "业务任务在它自己的调度器中启用或停用",
    "the job is disabled": "任务已停用",
    "the job is running": "任务正在运行",
    "the scheduler refuses to start the job now": "调度器现在拒绝启动此任务",
    "the trigger hook of {} does not answer": "{} 的触发接口没有应答",
    "the trigger hook of {} answered {}": "{} 的触发接口返回 {}",
    "this server was started without the address of Dagster": "启动本服务时没有给出 Dagster 的地址",
    "Dagster does not know this job": "Dagster 没有此任务",
    "Dagster does not say whether it started the job; see its runs": "Dagster 没有说是否已启动任务，请看其运行记录",
    "Dagster could not start the job; its log says why": "Dagster 无法启动任务，原因见其日志",
    "the Dagster web server does not answer": "Dagster 网页服务没有应答",
    "the Dagster web server refused the request": "Dagster 网页服务拒绝了请求",
}  # fmt: skip

#: Reason words: why a safety rule declines (R-401, R-402), why a component is not well: (zh-CN, en).
_REFUSED = {
    "rolled_back": ("此计划已回滚，请制定新计划", "the plan was rolled back; make a new one"),
    "stale_plan": ("计划太旧，链接可能已失效，请制定新计划", "the plan is too old, its links may have expired; make a new one"),
    "not_approved": ("计划尚未批准", "the plan is not approved"),
    "plan_changed": ("计划与批准时不同，请制定新计划", "the plan is not what was approved; make a new one"),
    "config_changed": ("制定计划后配置有变化，请制定新计划", "the configuration changed after the plan was made; make a new one"),
    "schema_drift": ("制定计划后输出表的结构有变化，请制定新计划", "the output table changed after the plan was made; make a new one"),
    "privileges_missing": (
        "修复账号缺少权限；mp repair doctor 会列出 GRANT 语句",
        "the repair account lacks a right; mp repair doctor prints the GRANT statements",
    ),
    "surplus_grants": ("读取账号有写权限；请换用只读账号", "the reading account may write; use one with SELECT only"),
    "not_ready": ("只有待批准的计划可以批准", "only a plan that is ready can be approved"),
    "hash_differs": ("计划与您看到的不同，请再看一次", "the plan is not the one that was looked at; look again"),
    "two_person": ("制定者不能自己批准（repair.two_person）", "who made the plan may not approve it (repair.two_person)"),
    "placeholder": ("计划会插入占位内容，只能用命令行批准", "the plan would insert placeholders; approve it in a shell"),
    "placeholder_not_allowed": ("不允许占位（repair.allow_placeholder）", "placeholders are not allowed (repair.allow_placeholder)"),
    "not_open": ("此状态的计划不能拒绝", "a plan in this state cannot be rejected"),
    "not_resumable": ("此运行不能恢复", "this run cannot be resumed"),
    "repair_dsn_missing": ("没有配置修复账号（repair_dsn_env）", "no repair account is configured (repair_dsn_env)"),
    "no_recoverer": ("没有配置恢复方式（repair.recoverers）", "no recoverer is configured (repair.recoverers)"),
    "no_output_table": ("没有可插入的输出表", "there is no output table rows could be inserted into"),
    "no_primary_key": ("输出表没有主键", "the output table has no primary key"),
    "not_transactional": ("输出表的引擎不支持回滚", "the engine of the output table cannot roll back"),
    "insert_mapping": ("repair.insert 未说明如何填写输出表", "repair.insert does not say what fills the output table"),
    "no_task_times": ("无法按时间查找任务", "tasks cannot be searched by time"),
    "journal_missing": ("日志表不可用；请先运行 mp repair init", "the journal cannot be used; run mp repair init once"),
    "read_only_target": ("修复账号连接的是只读服务器", "the repair account points at a server that is read-only"),
    "locked": ("此数据源的另一次修复正在进行", "another repair of this source is under way"),
    "paused": ("已暂停，可以恢复", "paused; it can be resumed"),
    "check_running": ("同类检查正在运行", "a check of this type is running"),
    "refused": ("安全规则不允许", "a safety rule does not allow it"),
    "nothing_published": ("尚未发布数据", "nothing has been published yet"),
    "lake_damaged": ("已发布的文件无法读取", "the published files cannot be read"),
    "state_unavailable": ("状态库无法使用", "the state store cannot be used"),
}  # fmt: skip

#: What may stand in a gap.
_GAPS = {"{}": "(.+?)", "{n}": r"(\d+)"}
#: A longer text is no sentence of ours, and looking into its parts goes as deep as it has parts.
LONGEST = 1000
#: Where it is, a parameter, a source or a step, before what is the matter there.
_PLACED = re.compile(r"([\w.\[\]/-]+): ([^\n]+)")


def said(text: str, language: str) -> str:
    """The sentence in ``zh-CN`` or ``en``; what is in no table stays as it is.

    Several sentences in one text stand in lines of their own or are parted by ``; ``.
    """
    return (len(text) <= LONGEST and _said(text.strip(), language)) or text


@lru_cache(2048)
def _said(text: str, language: str) -> str | None:
    place = 0 if language == "zh-CN" else 1
    if text in _REFUSED:
        return _REFUSED[text][place]
    word = text.rpartition(": ")[2]
    if word in _REFUSED:
        return f"{_REFUSED[word][place]} ({word})" if place else f"{_REFUSED[word][place]}（{word}）"
    if place:
        return None
    for words, form, chinese in _forms():
        if words in text and (match := form.fullmatch(text)):
            return chinese.format(*(said(part, language) for part in match.groups()))
    placed = _PLACED.fullmatch(text)
    if placed:
        rest = _said(placed[2], language)
        return rest and f"{placed[1]}：{rest}"
    for mark, joint in (("\n", "\n"), ("; ", "；"), (", ", "，")):
        parts = [(part, _said(part, language)) for part in text.split(mark)] if mark in text else []
        if any(known for _, known in parts) and (mark != ", " or all(known for _, known in parts)):
            return joint.join(known or part for part, known in parts)
    return None


@lru_cache(1)
def _forms() -> list[tuple[str, re.Pattern[str], str]]:
    """Words a sentence must have, its pattern and what it becomes: those that begin with a word come first, and of these the
    longest, so that no general one wins over a special one.

    Looking for the words first tells most texts in a twentieth of the time: pages ask for every value they show.
    """
    found = []
    for form, chinese in sorted(_ZH.items(), key=lambda pair: (pair[0].startswith("{"), -len(pair[0]))):
        parts = re.split(r"(\{n?\})", form)
        pattern = "".join(_GAPS.get(part) or re.escape(part) for part in parts)
        words = max((part for part in parts if part not in _GAPS), key=len)
        found.append((words, re.compile(pattern, re.DOTALL), chinese))
    return found
