// The words of the scanner page; a language is one file, as for the citizen page. This one says which words there are.

/** What stands large, and what to do. */
export interface Said {
  readonly word: string;
  readonly advice: string;
}

export const words = {
  lang: 'zh-CN',
  title: '验码',
  said: {
    green: { word: '绿码', advice: '请放行' },
    yellow: { word: '黄码', advice: '受限：请按本场所规定处理' },
    red: { word: '红码', advice: '不得放行。请保持礼貌，并联系值班人员' },
    unknown: { word: '状态未知', advice: '此码真实，但没有状态：请询问值班人员' },
    expired: { word: '已过期', advice: '请对方出示最新的码，页面会自动刷新' },
    not_yet_valid: { word: '尚未生效', advice: '请对方出示最新的码' },
    revoked: { word: '已撤销', advice: '此码的密钥已撤销：请对方刷新后再出示' },
    bad_signature: { word: '非真码', advice: '签名不符：伪造或损坏' },
    malformed: { word: '不是健康码', advice: '是其他二维码，或未读清：请重试' },
    unknown_resident: { word: '未登记', advice: '此码真实，但持有人未登记：请询问值班人员' },
    unknown_issuer: { word: '签发方不在列表中', advice: '这不表示无效：请询问值班人员' },
    clock_suspect: { word: '本设备时间不准', advice: '请校准日期和时间后重新扫描' },
    stale_trust: { word: '密钥列表过旧', advice: '此码可能有效：请将本设备联网' },
    no_keys: { word: '尚无密钥列表', advice: '请将本设备联网一次' },
  },
  test: '测试：不是健康码',
  /** A code that counts in grace: when it was last true. */
  inGrace: (time: string) => `宽限期内：最后有效于 ${time}`,
  ready: '请出示下一个码',
  last: (word: string, time: string) => `上一个：${word}，${time}`,
  /** Which of the two decided. */
  source: { online: '联网核验', offline: '本设备核验' },
  link: { online: '在线', offline: '离线：由本设备核验', forced: '离线（手动）' },
  choice: '核验方式',
  choices: { auto: '自动', online: '仅在线（等待）', offline: '离线' },
  camera: {
    on: '打开摄像头',
    off: '关闭摄像头',
    blocked: '摄像头被禁用：请允许本页使用，或使用扫码枪。',
    none: '没有找到摄像头：请使用扫码枪，或输入码。',
    insecure: '本页需要 https，否则无法使用摄像头，也无法离线核验。',
  },
  torch: '补光',
  zoom: '变焦',
  typed: '输入、粘贴或用扫码枪扫入的码',
  check: '核验',
  shift: '本班次',
  newShift: '新班次',
  shiftSince: (time: string) => `自 ${time}`,
  other: '其他',
  status: { green: '绿码', yellow: '黄码', red: '红码', unknown: '未知' },
  testShort: '测试',
  device: '本设备',
  waiting: (count: number) => (count ? `${count} 条记录待上传` : '记录已全部上传'),
  refusedRecords: (count: number) => `${count} 条记录被服务器拒绝：已保留，请告知值班人员`,
  volatile: '此浏览器无法保存数据：上传完成前请勿关闭本页。',
  trust: {
    list: '本服务器的密钥列表',
    none: '没有密钥列表：无法离线核验',
    age: (age: string) => `${age}确认`,
    unusable: (count: number) => `${count} 个密钥此浏览器无法使用`,
    soon: (until: string) => `密钥列表较旧，将于 ${until} 失效。请将本设备联网。`,
    over: '密钥列表过旧，已不能用于核验。请将本设备联网。',
    refused: (why: string) => `新的密钥列表被拒：${why}`,
    update: '更新列表',
  },
  age: (minutes: number) =>
    minutes < 1 ? '刚刚' : minutes < 120 ? `${minutes} 分钟前` : `${Math.floor(minutes / 60)} 小时前`,
  clockOff: (minutes: number) => `本设备时间${minutes > 0 ? '慢' : '快'} ${Math.abs(minutes)} 分钟；已采用服务器时间。`,
  tokenRefused: '服务器不接受本设备的令牌：请重新设置。记录已保留。',
  setup: {
    title: '设置',
    intro: '以下内容由管理员提供。',
    token: '令牌',
    tokenHint: '48 个字符。本设备已安装证书时留空。',
    place: '地点',
    placeHint: '记录中使用的名称，例如“北门”。请勿填写人名。',
    save: '保存',
    tokenWrong: '令牌不正确：应为 48 个字符。',
  },
  noScript: '本页需要 JavaScript。',
};

/** What another language has to say as well. */
export type Words = typeof words;
